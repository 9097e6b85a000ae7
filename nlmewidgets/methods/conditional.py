r"""The conditional distribution of the random effects, p(η_i | y_i; θ, Ω, σ), by Markov chains at fixed values.

Several chains per subject start from draws around its mode and are moved by the kernels of core/sample.py.
Means and standard deviations come from every sweep; the draws kept are spread evenly over the run.  The
run is a list of blocks of sweeps: when there are twice as many as wanted, neighbours are merged, so memory
does not grow with its length.

The Monte Carlo error of a mean is that of batch means: with b batches of equal length,
:math:`\widehat{\mathrm{se}}^2 = s^2_b/b`.  The run ends when it is below `tolerance` conditional standard
deviations for every random effect of every subject, or at its longest.

References
----------
Flegal, Haran & Jones (2008), doi:10.1214/08-STS257 (batch means as a stopping rule).
Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001 (the kernels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.sample import ChainState, Proposal, Target, sweep
from nlmewidgets.methods.marginal import precision_of

__all__ = ["Conditional", "conditional"]

_BATCHES = 16
"""At least, of each chain: with ten chains the error is known to 6 %."""
_WARM_UP = 30
_SHORTEST = 100
_LONGEST = 4000


@dataclass(frozen=True, eq=False)
class Conditional:
    """Moments and draws of the random effects given the data.

    Attributes
    ----------
    mean, sd : (etas, subjects) float
    error : (etas, subjects) float
        Monte Carlo standard error of the mean.
    ess : (etas, subjects) float
        How many independent draws would have this error.
    draws : (draws, etas, subjects) float
        Spread evenly over the run, one chain after the other in turn.
    sweeps, chains : int
        Length of the run and chains per subject.
    converged : bool
        Whether the error is what was asked for.
    message : str
        How the run ended, in a sentence.
    """

    mean: Array
    sd: Array
    error: Array
    ess: Array
    draws: Array
    sweeps: int
    chains: int
    converged: bool
    message: str


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Sums over blocks of sweeps: η, η², and the last η of each, (blocks, etas, chains, subjects)."""

    first: Array
    second: Array
    last: Array
    length: int

    def merged(self) -> _Blocks:
        """Return half as many blocks, each of two neighbours."""
        return _Blocks(
            self.first[::2] + self.first[1::2], self.second[::2] + self.second[1::2], self.last[1::2], 2 * self.length
        )

    def moments(self) -> tuple[Array, Array, Array]:
        """Return mean, standard deviation and error of the mean, (etas, subjects) each."""
        count = self.length * len(self.first)
        chains = self.first.shape[2]
        mean = self.first.mean(axis=(0, 2)) / self.length
        square = self.second.mean(axis=(0, 2)) / self.length
        sd = np.sqrt(np.maximum(square - mean * mean, 0.0) * (count * chains / max(count * chains - 1, 1)))
        size = len(self.first) // _BATCHES
        batches = self.first[: size * _BATCHES].reshape(_BATCHES, size, *self.first.shape[1:]).mean(axis=1)
        spread = (batches / self.length).var(axis=(0, 2)) * (_BATCHES * chains / (_BATCHES * chains - 1))
        return mean, sd, np.sqrt(spread / (_BATCHES * chains))


def conditional(
    problem: Problem,
    values: Values,
    *,
    draws: int = 200,
    chains: int = 10,
    seed: int | np.random.Generator = 0,
    start: Array | None = None,
    tolerance: float = 0.05,
    longest: int = _LONGEST,
) -> Conditional:
    """Sample the random effects of every subject given its data, at fixed population values.

    Parameters
    ----------
    problem : Problem
    values : Values
        Of any method's fit.
    draws : int
        Draws of each subject to keep.
    chains : int
        Independent chains per subject.
    seed : int or Generator
    start : (etas, subjects) float, optional
        The modes, or near them.
    tolerance : float
        Monte Carlo error of the means, in conditional standard deviations, at which to stop.
    longest : int
        Sweeps of each chain at most.

    Returns
    -------
    Conditional

    Raises
    ------
    MethodError
        If there are no random effects, or a number asked for is not positive.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> from nlmewidgets.methods.conditional import conditional
    >>> data = nw.datasets.load("theophylline")
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> given = conditional(model.problem(data), model.values, draws=100)
    >>> given.mean.shape, given.draws.shape, given.converged
    ((3, 12), (100, 3, 12), True)
    """
    q, n = problem.n_eta, problem.n_subjects
    if not q:
        raise MethodError("The model has no random effects, so there is nothing to sample given the data.")
    for name, number in (("draws", draws), ("chains", chains), ("tolerance", tolerance), ("longest", longest)):
        if not number > 0:
            raise MethodError(f"{name}={number:g} is not positive; conditional distributions need some.")
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    omega = problem.occasions.expand(values.omega)
    precision, _ = precision_of(omega)
    typical = problem.typical(values.theta).slots
    target = Target(problem, typical, precision, np.linalg.cholesky(omega), values.sigma)
    with np.errstate(all="ignore"):
        proposal = Proposal.near(
            find_modes(problem, typical, precision, values.sigma, start, tolerance=1e-6), precision
        )
        state = ChainState.at(target, proposal.draw(rng, chains)[0])
        for _ in range(_WARM_UP):
            state = sweep(target, state, rng, proposal)
        wanted = max(_BATCHES, math.ceil(draws / chains))
        wanted += wanted % 2
        shape = (2 * wanted, *state.eta.shape)
        blocks = _Blocks(np.zeros(shape), np.zeros(shape), np.zeros(shape), 1)
        place = done = 0
        while True:
            for turn in range(blocks.length):
                # As in SAEM: proposals around the modes, and the other kernels in turn.
                which = (done + turn) % 3
                state = sweep(
                    target, state, rng, proposal, prior=which == 0, single=which == 1, block=which == 2, adapt=False
                )
                blocks.first[place] += state.eta
                blocks.second[place] += state.eta * state.eta
            blocks.last[place] = state.eta
            done, place = done + blocks.length, place + 1
            if place % wanted:
                continue
            filled = _Blocks(blocks.first[:place], blocks.second[:place], blocks.last[:place], blocks.length)
            if done >= min(_SHORTEST, longest):
                mean, sd, error = filled.moments()
                ratio = float(np.max(error / np.where(sd > 0, sd, 1.0)))
                if ratio <= tolerance or done >= longest:
                    break
            if place == 2 * wanted:
                half = filled.merged()
                blocks.first[wanted:] = blocks.second[wanted:] = 0.0
                blocks.first[:wanted], blocks.second[:wanted], blocks.last[:wanted] = half.first, half.second, half.last
                blocks, place = _Blocks(blocks.first, blocks.second, blocks.last, half.length), wanted
    converged = ratio <= tolerance
    kept = np.linspace(0, len(filled.last) * chains - 1, draws).round().astype(np.intp)
    each = filled.last.transpose(0, 2, 1, 3).reshape(-1, q, n)[kept]
    ess = np.where(error > 0, (sd / np.where(error > 0, error, 1.0)) ** 2, np.inf)
    message = f"{done} sweeps of {chains} chains a subject; the largest Monte Carlo error of a mean is {ratio:.2g} SD"
    message += "." if converged else f", more than the {tolerance:g} asked for; take more chains or a larger longest=."
    return Conditional(mean, sd, error, np.minimum(ess, done * chains), each, done, chains, converged, message)
