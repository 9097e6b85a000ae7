"""Self-checked exercises of the course: hints one at a time, and checks that answer in words.

>>> from nlmewidgets import exercises
>>> exercises.check("combined-sd", 1.3)
combined-sd: Close, but these are standard deviations added; independent errors add their variances.
False
>>> exercises.hint("combined-sd")
Hint 1 of 2: Independent errors add their variances.

A cell that grades is ``assert nw.exercises.check("combined-sd", answer)``.  ``python -m nlmewidgets.exercises
FOLDER`` writes the notebooks of the course without their solutions.
"""

from __future__ import annotations

from typing import Any

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.exercises import approximations, cases, judging, parameters
from nlmewidgets.exercises.exercise import Better, Choice, Exercise, Mistake, Number
from nlmewidgets.exercises.student import student_copy
from nlmewidgets.exercises.study import study

__all__ = [
    "EXERCISES",
    "Better",
    "Choice",
    "Exercise",
    "Mistake",
    "Number",
    "check",
    "hint",
    "student_copy",
    "study",
]

EXERCISES: dict[str, Exercise] = {
    e.name: e for e in (*parameters.EXERCISES, *approximations.EXERCISES, *judging.EXERCISES, *cases.EXERCISES)
}
"""Every exercise by its name, in the order of the course."""

_shown: dict[str, int] = {}


def _find(name: str) -> Exercise:
    if name not in EXERCISES:
        raise NlmeError(f"There is no exercise '{name}'; there are {', '.join(EXERCISES)}.")
    return EXERCISES[name]


def check(name: str, answer: Any) -> bool:
    """Print what is to be said about an answer, and return whether it is right.

    Parameters
    ----------
    name : str
        One of `EXERCISES`.
    answer : number, str or Fit
        None or ``...`` where nothing is handed in yet.

    Raises
    ------
    NlmeError
        If there is no such exercise.
    """
    right, sentence = _find(name).judge(answer)
    print(f"{name}: {sentence}")
    return right


def hint(name: str) -> None:
    """Print the next hint; after the last one, begin again.

    Raises
    ------
    NlmeError
        If there is no such exercise.
    """
    hints = _find(name).hints
    k = _shown.get(name, 0) % len(hints)
    _shown[name] = k + 1
    print(f"Hint {k + 1} of {len(hints)}: {hints[k]}")
