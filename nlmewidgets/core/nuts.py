r"""The no-U-turn sampler, many chains at once.

A chain is a generator: it yields the point at which it needs the log density and its gradient, and is sent
them.  `run` collects the wishes of all chains and answers them by one call, so that chains of different tree
depth never wait for each other and a density that is cheaper by the batch is evaluated by the batch.

Trees are multinomial, with the generalised criterion of a U-turn and its checks across subtrees.  All chains
learn one step size (dual averaging) and one diagonal metric during warm-up and keep them afterwards; the
metric is :math:`\sqrt{\mathrm{Var}(q)/\mathrm{Var}(\nabla)}` over growing windows, which brings both positions
and gradients to unit scale.

References
----------
Hoffman & Gelman (2014), Journal of Machine Learning Research 15:1593 (NUTS, dual averaging).
Betancourt (2017), doi:10.48550/arXiv.1701.02434 (multinomial trees, the criterion).
The metric from draws and gradients is that of nuts-rs, https://docs.rs/nuts-rs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["Adaptation", "Chain", "Density", "Draw", "run"]

Density = Callable[[Array], tuple[Array, Array, Array]]
"""(points, size) → log density (points,), its gradient, and any number to be kept with each point (points,)."""

Answer = tuple[float, Array, float]
Wish = Generator[Array, Answer, "_Tree"]

_WORST = 1000.0
"""An energy error beyond which a trajectory has diverged."""

_GAIN = 0.2
"""γ of dual averaging.  With the usual 0.05 the step size swings, the more so as several chains report on step sizes
of a while ago, and its average comes out at half the step that has the acceptance aimed at."""


class Draw(NamedTuple):
    """One transition of a chain."""

    position: Array
    value: float
    """Log density."""
    extra: float
    divergent: bool
    depth: int
    leapfrogs: int
    acceptance: float
    step: float
    energy: float


@dataclass(eq=False)
class Adaptation:
    """The step size and diagonal metric that chains learn together.

    Attributes
    ----------
    variance : (size,) float
        Inverse of the metric.
    step : float
    warmup : int
        Transitions to learn from, of all chains on average; a quick chain makes more of them than a slow one, so that
        all end together and keep the same step size and metric.
    chains : int
    target : float
        Mean acceptance aimed at.
    """

    variance: Array
    step: float
    warmup: int
    chains: int
    target: float = 0.8
    fed: int = 0
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        end = int(0.85 * self.warmup)
        while end >= 8:  # each window ends the metric's learning from a stretch nearly as long as all before it
            self.ends.insert(0, end)
            end = int(0.55 * end)
        self._restart()
        self._forget()

    def _restart(self) -> None:
        self._aim = math.log(2.0 * self.step)
        self._count, self._error, self._average = 0, 0.0, 0.0

    def _forget(self) -> None:
        size = len(self.variance)
        self._n = 0
        self._mean, self._square = np.zeros((2, size)), np.zeros((2, size))

    def feed(self, position: Array, gradient: Array, acceptance: float) -> None:
        """Learn from one transition of a warming chain."""
        self.fed += 1
        self._count += 1
        t = self._count
        self._error += (self.target - acceptance - self._error) / (t + 10.0)
        log_step = self._aim - math.sqrt(t) / _GAIN * self._error
        self._average += t**-0.75 * (log_step - self._average)
        self.step = math.exp(log_step)
        self.note(position, gradient)
        if self.ends and self.fed >= self.ends[0] * self.chains:
            del self.ends[0]
            self.learn_metric()
            self.step = self.final_step
            self._restart()
        if self.learned:
            self.step = self.final_step

    def note(self, position: Array, gradient: Array) -> None:
        """Take a point of the distribution into account for the next metric."""
        self._n += 1
        both = np.stack([position, gradient])
        away = both - self._mean
        self._mean += away / self._n
        self._square += away * (both - self._mean)

    @property
    def learned(self) -> bool:
        """Whether warm-up is over."""
        return self.fed >= self.warmup * self.chains

    def learn_metric(self) -> None:
        """Set the metric by the points noted since the last one, and forget them."""
        with np.errstate(all="ignore"):
            variance = np.sqrt(self._square[0] / self._square[1])
        good = np.isfinite(variance) & (variance > 0)
        self.variance = np.where(good, variance, self.variance)
        self._forget()

    @property
    def final_step(self) -> float:
        """The averaged step size."""
        return math.exp(self._average) if self._count else self.step


@dataclass(eq=False, slots=True)
class _Tree:
    """A trajectory: its ends (position, momentum, velocity, gradient), sums over it, and one state drawn from it."""

    left: tuple[Array, Array, Array, Array]
    right: tuple[Array, Array, Array, Array]
    momentum: Array
    proposal: tuple[Array, float, Array, float]
    log_weight: float
    leaves: int
    acceptance: float
    turning: bool = False
    divergent: bool = False


@dataclass(eq=False)
class Chain:
    """One chain; `steps` is the generator to be driven.

    Attributes
    ----------
    position : (size,) float
        Where it is.
    draws : int
        Transitions after warm-up.
    adaptation : Adaptation
        Shared with the other chains.
    rng : Generator
    max_depth : int
        A trajectory has at most 2^max_depth steps.
    fresh : list of Draw
        Transitions after warm-up not yet collected.
    done : int
        How many there have been.
    """

    position: Array
    draws: int
    adaptation: Adaptation
    rng: np.random.Generator
    max_depth: int = 10
    fresh: list[Draw] = field(default_factory=list)
    done: int = 0
    step: float = 0.0
    variance: Array = field(default_factory=lambda: np.zeros(0))
    leapfrogs: int = 0
    extra: float = math.nan

    def steps(self) -> Generator[Array, Answer, None]:
        """Yield the points at which the density is needed; transitions are appended to `fresh`."""
        shared = self.adaptation
        value, gradient, extra = yield self.position
        self.extra = extra
        while not shared.learned or self.done < self.draws:
            warming = not shared.learned
            self.step, self.variance = shared.step, shared.variance
            draw, gradient = yield from self._transition(value, gradient, extra)
            self.position, value, extra = draw.position, draw.value, draw.extra
            self.extra = extra
            if not warming:
                self.done += 1
                self.fresh.append(draw)
            elif not shared.learned:
                shared.feed(draw.position, gradient, draw.acceptance)

    def _transition(self, value: float, gradient: Array, extra: float) -> Generator[Array, Answer, tuple[Draw, Array]]:
        rng, variance = self.rng, self.variance
        momentum = rng.standard_normal(len(self.position)) / np.sqrt(variance)
        velocity = variance * momentum
        energy = 0.5 * float(momentum @ velocity) - value
        end = (self.position, momentum, velocity, gradient)
        tree = _Tree(end, end, momentum, (self.position, value, gradient, extra), 0.0, 0, 0.0)
        depth = 0
        while depth < self.max_depth:
            forward = rng.random() < 0.5
            new = yield from self._build(depth, tree.right if forward else tree.left, forward, energy)
            depth += 1
            tree.leaves += new.leaves
            tree.acceptance += new.acceptance
            if new.turning or new.divergent:
                tree.divergent = new.divergent
                break
            if math.log(rng.random()) < new.log_weight - tree.log_weight:
                tree.proposal = new.proposal
            _join(tree, new, forward)
            if tree.turning:
                break
        position, value, gradient, extra = tree.proposal
        acceptance = tree.acceptance / max(tree.leaves, 1)
        draw = Draw(position, value, extra, tree.divergent, depth, tree.leaves, acceptance, self.step, energy)
        return draw, gradient

    def _build(self, depth: int, end: tuple[Array, Array, Array, Array], forward: bool, energy: float) -> Wish:
        """Return the tree of 2^depth leapfrog steps from an end (less, where it turns or diverges)."""
        if depth == 0:
            tree: _Tree = yield from self._leaf(end, forward, energy)
            return tree
        tree = yield from self._build(depth - 1, end, forward, energy)
        if tree.turning or tree.divergent:
            return tree
        new = yield from self._build(depth - 1, tree.right if forward else tree.left, forward, energy)
        tree.leaves += new.leaves
        tree.acceptance += new.acceptance
        if new.turning or new.divergent:
            tree.turning, tree.divergent = new.turning, new.divergent
            return tree
        if math.log(self.rng.random()) < new.log_weight - float(np.logaddexp(tree.log_weight, new.log_weight)):
            tree.proposal = new.proposal
        _join(tree, new, forward)
        return tree

    def _leaf(self, end: tuple[Array, Array, Array, Array], forward: bool, energy: float) -> Wish:
        step = self.step if forward else -self.step
        position, momentum, _, gradient = end
        momentum = momentum + 0.5 * step * gradient
        position = position + step * (self.variance * momentum)
        value, gradient, extra = yield position
        self.leapfrogs += 1
        momentum = momentum + 0.5 * step * gradient
        velocity = self.variance * momentum
        gain = energy + value - 0.5 * float(momentum @ velocity)
        if not gain > -math.inf:  # also NaN
            gain = -math.inf
        new = (position, momentum, velocity, gradient)
        acceptance = 1.0 if gain >= 0 else math.exp(gain)
        return _Tree(
            new, new, momentum, (position, value, gradient, extra), gain, 1, acceptance, divergent=gain < -_WORST
        )


def _join(tree: _Tree, new: _Tree, forward: bool) -> None:
    """Lengthen a tree by a new one beyond one of its ends, and see whether the whole turns back."""
    first, second = (tree, new) if forward else (new, tree)
    left, right = first.left, second.right
    total = first.momentum + second.momentum
    turning = not (left[2] @ total > 0 and right[2] @ total > 0)
    if not turning and new.leaves > 1:
        across = first.momentum + second.left[1]
        turning = not (left[2] @ across > 0 and second.left[2] @ across > 0)
        if not turning:
            across = second.momentum + first.right[1]
            turning = not (first.right[2] @ across > 0 and right[2] @ across > 0)
    tree.left, tree.right, tree.momentum = left, right, total
    tree.log_weight = float(np.logaddexp(tree.log_weight, new.log_weight))
    tree.turning = turning


def run(density: Density, chains: list[Chain]) -> Iterator[None]:
    """Drive chains to their end, yielding after every evaluation of the density at the points they wish for."""
    steps = [chain.steps() for chain in chains]
    wishes = [(one, next(one)) for one in steps]
    while wishes:
        value, gradient, extra = density(np.stack([point for _, point in wishes]))
        following = []
        for k, (one, _) in enumerate(wishes):
            try:
                following.append((one, one.send((float(value[k]), gradient[k], float(extra[k])))))
            except StopIteration:
                continue
        wishes = following
        yield
