"""Linear algebra without floating-point flags: what NumPy refuses is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nlmewidgets.core.webassembly import looked_at

SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
INDEFINITE = np.diag([1.0, -1.0])
GOOD = np.array([[2.0, 0.5], [0.5, 1.0]])
UNKNOWN = np.full((2, 2), np.nan)


def flagless(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a function of NumPy does without flags: NaN for each matrix that it would refuse."""

    def each(*stacks: Any) -> Any:
        broadcast = [np.broadcast_to(s, (*stacks[0].shape[:-2], *np.shape(s)[-2:])) for s in stacks]
        answers = []
        for index in np.ndindex(stacks[0].shape[:-2]):
            matrices = [b[index] for b in broadcast]
            try:
                answers.append(function(*matrices))
            except np.linalg.LinAlgError:
                answers.append(np.full_like(matrices[-1], np.nan))
        return np.reshape(answers, broadcast[-1].shape)

    return each


@pytest.mark.parametrize("stack", [[GOOD], [GOOD, SINGULAR], [INDEFINITE], [UNKNOWN, GOOD], [SINGULAR, UNKNOWN]])
@pytest.mark.parametrize("name", ["inv", "solve", "cholesky"])
def test_it_answers_and_refuses_as_numpy_does(name, stack) -> None:
    function = getattr(np.linalg, name)
    arguments = [np.array(stack), np.ones((len(stack), 2, 1))][: 2 if name == "solve" else 1]
    ours = looked_at(flagless(function), "no")
    try:
        expected = function(*arguments)
    except np.linalg.LinAlgError:
        with pytest.raises(np.linalg.LinAlgError, match="no"):
            ours(*arguments)
    else:
        np.testing.assert_array_equal(ours(*arguments), expected)
