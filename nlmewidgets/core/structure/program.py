"""Several expressions of slots, covariates and other inputs, with their derivatives along the slots."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Ints
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.tape import Index, Level, Tape

__all__ = ["TapeProgram", "program_of"]


class TapeProgram:
    """Nodes of one tape with kernels for their values and derivatives, made on demand.

    Parameters
    ----------
    tape : Tape
    nodes : tuple of int
        What is evaluated.
    directions : tuple of int
        Inputs along which to differentiate.
    n_random : int
        Second derivatives are taken along (one of the first `n_random` directions, any direction).
    """

    def __init__(self, tape: Tape, nodes: tuple[int, ...], directions: tuple[int, ...], n_random: int) -> None:
        self.tape, self.nodes, self.directions, self.n_random = tape, nodes, directions, n_random
        self._kernels: dict[int, Kernel] = {}

    @property
    def varies(self) -> bool:
        """Whether any derivative differs from zero."""
        return any(self.tape.derivative(n, d) is not None for n in self.nodes for d in self.directions)

    def kernel(self, order: int) -> Kernel:
        """Return the kernel giving values (nodes), first and second derivatives up to `order`."""
        if order not in self._kernels:
            tape, directions = self.tape, self.directions
            packs: list[Any] = [list(self.nodes)]
            first: list[list[Index]] = [[tape.derivative(n, d) for n in self.nodes] for d in directions]
            if order >= 1:
                packs.append(first or None)
            if order >= 2:
                # ∂²/∂a∂b from the derivative along the earlier slot: the two orders share one node.
                packs.append(
                    [
                        [
                            [tape.derivative(x, directions[max(a, b)]) for x in first[min(a, b)]]
                            for b in range(len(directions))
                        ]
                        for a in range(self.n_random)
                    ]
                    or None
                )
            self._kernels[order] = numpy_kernel(tape, packs)
        return self._kernels[order]

    def __call__(self, inputs: tuple[Any, ...], block: Ints | None, shape: tuple[int, ...], order: int) -> Jet:
        """Return the jet (nodes, *shape), (directions, nodes, *shape), …; parts that are zero are None."""
        parts = self.kernel(order)(inputs, block, shape)
        value = np.zeros((len(self.nodes), *shape)) if parts[0] is None else parts[0]
        return value, parts[1] if order >= 1 else None, parts[2] if order >= 2 else None


@lru_cache(maxsize=256)
def program_of(
    expressions: tuple[sp.Expr, ...],
    slots: tuple[sp.Symbol, ...],
    n_random: int,
    covariates: tuple[sp.Symbol, ...],
    inputs: tuple[sp.Symbol, ...],
) -> TapeProgram:
    """Return the (cached) program of expressions in slots and covariates (per block) and inputs (per record)."""
    tape = Tape(dict.fromkeys((*slots, *covariates), Level.BLOCK) | dict.fromkeys(inputs, Level.RECORD))
    nodes = tuple(tape.expression(e) for e in expressions)
    return TapeProgram(tape, nodes, tuple(tape.inputs[s] for s in slots), n_random)
