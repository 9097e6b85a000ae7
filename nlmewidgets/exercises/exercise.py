"""What an exercise is: a question, an answer the package computes, and what to say about other answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Fit

__all__ = ["Answer", "Better", "Choice", "Exercise", "Mistake", "Number"]

_NOTHING = "Nothing handed in yet."


@dataclass(frozen=True)
class Mistake:
    """A wrong number that many people find.

    Attributes
    ----------
    value : float
    sentence : str
        What was done, as the end of 'Close, but …'.
    """

    value: float
    sentence: str


@dataclass(frozen=True)
class Number:
    """A number, right where it agrees when rounded as asked.

    Attributes
    ----------
    value : float
    decimals : int
        Decimals asked for: half a unit of the last is the tolerance.
    mistakes : tuple of Mistake
    why : str
        What to know once it is right.
    error : float
        Added to the tolerance: by how much two right ways may differ (four Monte Carlo standard errors, say).
    """

    value: float
    decimals: int
    mistakes: tuple[Mistake, ...] = ()
    why: str = ""
    error: float = 0.0

    @property
    def within(self) -> float:
        """The tolerance: the rounding asked for, and what right ways differ by."""
        # Half a unit is right itself, and 0.285 is not a binary number.
        return 0.5 * 10.0**-self.decimals * (1.0 + 1e-6) + self.error

    def solution(self) -> float:
        """Return a right answer."""
        return round(self.value, self.decimals)

    def judge(self, answer: Any) -> tuple[bool, str]:
        """Return whether an answer is right, and a sentence about it."""
        try:
            x = float(answer)
        except (TypeError, ValueError):
            return False, f"A number is asked for; this is a {type(answer).__name__}."
        if not math.isfinite(x):
            return False, f"A number is asked for; this is {x}."
        if self._is(x, self.value):
            return True, f"Right: {self.value:.{self.decimals}f}. {self.why}".rstrip()
        for mistake in self.mistakes:
            if self._is(x, mistake.value):
                return False, f"Close, but {mistake.sentence}"
        if abs(x + self.value) <= self.within:
            return False, "The size is right, the sign is not."
        if self._is(x, 100.0 * self.value, 100.0):
            return False, "Close, but this is in per cent; the number itself is asked for."
        if self._is(100.0 * x, self.value):
            return False, "Close, but this is a hundredth of it."
        if abs(x - self.value) <= 4.0 * self.within:
            return False, f"Very close: give {self.decimals} decimals, and round only at the end."
        return False, f"Not yet: it is {'larger' if x < self.value else 'smaller'}. hint() helps."

    def _is(self, x: float, value: float, scale: float = 1.0) -> bool:
        return abs(x - value) <= scale * self.within


@dataclass(frozen=True)
class Choice:
    """One of a few words.

    Attributes
    ----------
    right : str
    options : mapping of str to str
        Every option, with the sentence said about it: why it is right, or why not.
    """

    right: str
    options: Mapping[str, str]

    def solution(self) -> str:
        """Return the right answer."""
        return self.right

    def judge(self, answer: Any) -> tuple[bool, str]:
        """Return whether an answer is right, and a sentence about it."""
        known = {name.casefold(): name for name in self.options}
        name = known.get(str(answer).strip().casefold())
        if name is None:
            return False, f"Choose one of {', '.join(map(repr, self.options))}."
        if name == self.right:
            return True, f"Right. {self.options[name]}"
        return False, f"Not this one. {self.options[name]}"


@dataclass(frozen=True)
class Better:
    """A fit whose −2 log L, by the yardstick, comes near the best one known.

    Attributes
    ----------
    best : Fit
    within : float
        By how much −2 log L may be above the best, or an AIC where parameters are counted.
    criterion : str
        '-2LL' or 'AIC'.
    """

    best: Fit
    within: float
    criterion: str = "-2LL"

    def solution(self) -> Fit:
        """Return the best fit known."""
        return self.best

    def judge(self, answer: Any) -> tuple[bool, str]:
        """Return whether an answer is right, and a sentence about it."""
        if not isinstance(answer, Fit):
            return False, f"A fit is asked for, what model.fit(data) returns; this is a {type(answer).__name__}."
        if answer.n_obs != self.best.n_obs or answer.n_subjects != self.best.n_subjects:
            return False, (
                f"This fit has {answer.n_obs} observations of {answer.n_subjects} subjects; use all "
                f"{self.best.n_obs} of {self.best.n_subjects}."
            )
        if not answer.converged:
            return False, f"This fit did not end by itself: {answer.message}"
        mine, best = (self._value(fit) for fit in (answer, self.best))
        text = f"{self.criterion} is {mine:.1f}, the best known {best:.1f}."
        if mine <= best + self.within:
            return True, f"Right: {text}"
        return False, f"Not yet: {text} hint() helps."

    def _value(self, fit: Fit) -> float:
        ofv = fit.yardstick().ofv
        return ofv + 2.0 * fit.n_parameters if self.criterion == "AIC" else ofv


Answer = Number | Choice | Better


@dataclass(frozen=True)
class Exercise:
    """A question with an answer that is computed.

    Attributes
    ----------
    name : str
        What `check` and `hint` call it.
    notebook : str
        The notebook of the course it ends.
    question : str
        In Markdown.
    key : callable
        Returns the answer; called once, at the first check.
    hints : tuple of str
        From a nudge to nearly the answer.
    points : int
        In a graded copy.
    """

    name: str
    notebook: str
    question: str
    key: Callable[[], Answer]
    hints: tuple[str, ...]
    points: int = 1
    _known: dict[str, Answer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def answer(self) -> Answer:
        """The answer, computed when first asked for."""
        if "answer" not in self._known:
            self._known["answer"] = self.key()
        return self._known["answer"]

    def judge(self, answer: Any) -> tuple[bool, str]:
        """Return whether an answer is right, and a sentence about it.

        Raises
        ------
        NlmeError
            If the exercise itself is broken: its own answer does not pass.
        """
        if answer is None or answer is Ellipsis:
            return False, f"{_NOTHING} hint({self.name!r}) helps."
        right, sentence = self.answer.judge(answer)
        if right and not sentence:
            raise NlmeError(f"The exercise {self.name!r} has nothing to say about a right answer.")
        return right, sentence.replace("hint()", f"hint({self.name!r})")
