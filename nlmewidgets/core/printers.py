"""Tape to NumPy source, compiled once per model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from nlmewidgets.core.simplex import expsimplex, multi_indices
from nlmewidgets.core.special import expmix, pairs
from nlmewidgets.core.tails import gap, mills, ndtr_between
from nlmewidgets.core.tape import ZERO, Index, Level, Tape

__all__ = ["Kernel", "numpy_kernel"]

Pack = Index | Sequence["Pack"]
"""An output: a node, or a (nested) sequence of nodes to be stacked into one array."""

_INFIX = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "pow": "{} ** {}", "neg": "-{}", "inv": "1.0 / {}"}

_NUMPY = """
    exp log sqrt sin cos tan sinh cosh tanh arctan absolute sign floor maximum minimum where empty
    greater greater_equal less less_equal equal not_equal logical_and logical_or logical_not
"""
_NAMESPACE: dict[str, Any] = {name: getattr(np, name) for name in _NUMPY.split()}
_SCIPY = "erf expit gammaln log_ndtr ndtr ndtri polygamma stdtrit"
_NAMESPACE |= {name: getattr(special, name) for name in _SCIPY.split()}
_NAMESPACE |= {
    "nan": np.nan,
    "expmix": expmix,
    "expsimplex": expsimplex,
    "mills": mills,
    "gap": gap,
    "ndtr_between": ndtr_between,
}

Kernel = Callable[..., tuple[Any, ...]]


def numpy_kernel(tape: Tape, packs: Sequence[Pack]) -> Kernel:
    """Compile the nodes that `packs` need into one NumPy function.

    The function is called as ``kernel(inputs, block, shape)``: `inputs` are the values of the tape's
    inputs in order (block-level ones with a last axis of blocks, record-level ones with a last axis
    of records), `block` maps each record to its block (None where they coincide), and `shape` is the
    shape of a record-level result.  It returns one entry per pack: a single node as it is computed
    (possibly a scalar), a sequence of nodes stacked along new leading axes, None where every node is
    structurally zero.  Results are at record level.  The generated text is kept as ``kernel.source``.
    """
    needed: set[int] = set()
    stack = [node for pack in packs for node in _leaves(pack) if node is not ZERO]
    while stack:
        number = stack.pop()
        if number not in needed:
            needed.add(number)
            stack.extend(tape.nodes[number].args)

    lines: list[str] = []
    gathered: set[int] = set()
    mixtures: dict[tuple[int, ...], int] = {}
    for number in needed:
        node = tape.nodes[number]
        if node.op == "expmix":
            mixtures[node.args] = max(mixtures.get(node.args, 0), sum(node.payload))  # type: ignore[arg-type]
    emitted: set[tuple[int, ...]] = set()

    def name(number: int, level: Level) -> str:
        node = tape.nodes[number]
        if node.op == "constant":
            value = node.payload
            return repr(value) if value >= 0 else f"({value!r})"  # type: ignore[operator]
        if node.level == Level.BLOCK and level == Level.RECORD:
            if number not in gathered:
                gathered.add(number)
                lines.append(f"r{number} = v{number} if block is None else v{number}.take(block, -1)")
            return f"r{number}"
        return f"v{number}"

    inputs = ", ".join(f"v{number}" for number in tape.inputs.values())
    lines.append(f"({inputs},) = inputs")
    for number in sorted(needed):
        node = tape.nodes[number]
        if node.op in ("input", "constant"):
            continue
        args = [name(a, node.level) for a in node.args]
        if node.op == "expmix":
            # SciPy-style: one call gives every moment of this pair of arguments.
            base = "m" + "_".join(map(str, node.args))
            order = mixtures[node.args]
            simple = len(args) == 2 and order <= 4  # beyond, the faster recurrence loses digits
            if node.args not in emitted:
                emitted.add(node.args)
                call = (
                    f"expmix({args[0]}, {args[1]}, {order})" if simple else f"expsimplex(({', '.join(args)}), {order})"
                )
                lines.append(f"{base} = {call}")
            indices: Sequence[Any] = pairs(order) if simple else multi_indices(len(args), order)
            place = indices.index(node.payload)
            lines.append(f"v{number} = {base}[{place}]")
        elif node.op == "polygamma":
            lines.append(f"v{number} = polygamma({node.payload}, {args[0]})")
        elif node.op in _INFIX:
            lines.append(f"v{number} = " + _INFIX[node.op].format(*args))
        else:
            lines.append(f"v{number} = {node.op}({', '.join(args)})")

    results = []
    for position, pack in enumerate(packs):
        if all(node is ZERO for node in _leaves(pack)):  # also an empty pack
            results.append("None")
        elif isinstance(pack, int):
            results.append(name(pack, Level.RECORD))
        else:
            shape = _pack_shape(pack)
            lines.append(f"p{position} = empty(({', '.join(map(str, shape))},) + shape)")
            for index, leaf in _walk(pack):
                value = "0.0" if leaf is ZERO else name(leaf, Level.RECORD)
                lines.append(f"p{position}[{', '.join(map(str, index))}] = {value}")
            results.append(f"p{position}")
    source = "def kernel(inputs, block, shape):\n    " + "\n    ".join(lines)
    source += f"\n    return ({', '.join(results)},)\n"
    scope = dict(_NAMESPACE)
    exec(compile(source, "<nlmewidgets kernel>", "exec"), scope)  # our own generated text, never the user's
    kernel: Kernel = scope["kernel"]
    kernel.source = source  # type: ignore[attr-defined]
    return kernel


def _leaves(pack: Pack) -> list[Index]:
    return [node for _, node in _walk(pack)]


def _walk(pack: Pack, place: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Index]]:
    if pack is ZERO or isinstance(pack, int):
        return [(place, pack)]
    return [leaf for position, part in enumerate(pack) for leaf in _walk(part, (*place, position))]


def _pack_shape(pack: Pack) -> tuple[int, ...]:
    if pack is ZERO or isinstance(pack, int):
        return ()
    return (len(pack), *_pack_shape(pack[0]))
