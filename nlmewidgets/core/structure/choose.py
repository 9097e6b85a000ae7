"""Which structure evaluates a model: the only place that knows them all."""

from __future__ import annotations

from collections.abc import Callable

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.closed_form import ClosedForm, PerOutput
from nlmewidgets.core.structure.increments import Increments
from nlmewidgets.core.structure.linear import Linear
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.core.structure.superposed import closed_outputs

__all__ = ["bind_structure"]


def bind_structure(binding: Binding) -> Callable[[Array, int], Jet]:
    """Return the structure of a model bound to data."""
    structure = _structure(binding)
    previous = binding.previous
    return structure if previous is None else Increments(structure, previous)


def _structure(binding: Binding) -> Callable[[Array, int], Jet]:
    closed = binding.outputs
    if binding.model.system is not None:
        expressions = closed_outputs(binding)
        if expressions is None:
            return Linear.bind(binding) or Ode.bind(binding)
        closed = tuple((e, rows) for e, (_, rows) in zip(expressions, closed, strict=True))
    parts = [(rows, ClosedForm.bind(binding, expression, rows)) for expression, rows in closed]
    return PerOutput.of(parts, binding.data.n_obs)
