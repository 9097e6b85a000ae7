"""The joint posterior of population parameters and random effects, by Hamiltonian Monte Carlo.

Chains of the no-U-turn sampler move in the coordinates of `methods.joint`, in two stretches of warm-up.  The first
finds the place; there the coordinates of each subject's random effects are fitted to what its data say.  The values of
a fit are posterior means of the parameters as they are named (SDs, correlations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from nlmewidgets.core import nuts_nutpie
from nlmewidgets.core.arrays import Array
from nlmewidgets.core.convergence import ess_bulk, ess_tail, rhat
from nlmewidgets.core.default_priors import complete
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.nuts import Adaptation, Chain, Density, run
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.joint import Joint
from nlmewidgets.methods.settled import settled_quadrature

__all__ = ["Bayes"]

MOST_ETAS = 200_000
"""Numbers of `posterior_eta` kept at most; draws are left out evenly beyond."""

_GOOD = 1.05
"""R-hat below which a fit is called converged."""

_DEVIANCE = "−2 log p(y | eta), mean over chains"


@dataclass(frozen=True)
class Bayes(Method):
    """Full Bayes: draws from the joint posterior of all parameters and random effects (NUTS).

    Parameters
    ----------
    chains : int
        Chains, run together: each further one costs little, as all are evaluated by one call.
    warmup : int
        Transitions of each chain that learn step size and metric, and are discarded.
    draws : int
        Transitions of each chain that are kept.
    target : float
        Acceptance aimed at; nearer 1 makes smaller steps, the remedy for divergences.
    max_depth : int
        A trajectory has at most 2^max_depth steps.
    sampler : {"auto", "numpy", "nutpie"}
        Ours, or nutpie's (extra ``bayes``), which draws after the first quarter of the warm-up.  "auto" is ours, which
        gives more for its time on these densities; the same seed gives the same draws with ours only.
    """

    chains: int = 8
    warmup: int = 200
    draws: int = 250
    target: float = 0.8
    max_depth: int = 10
    sampler: str = "auto"

    name: ClassVar[str] = "bayes"
    title: ClassVar[str] = "Bayes (NUTS)"
    summary: ClassVar[str] = "Draws from the joint posterior of all parameters: every uncertainty, at the cost of time."

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return −2 log L by quadrature."""
        return settled_quadrature(problem, values)[0].ofv

    def finish(self, problem: Problem, last: Iteration) -> Iteration:
        """Return the iteration with −2 log L at the posterior means by quadrature and the modes as etas."""
        result, by = settled_quadrature(problem, last.values)
        return replace(last, ofv=result.ofv, ofv_by=f"{by}, at the posterior means", eta=result.eta)

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield the start, the warm-up, and the sampling, each iteration a few transitions or evaluations on."""
        if min(self.chains, self.draws) < 1 or self.warmup < 0 or self.max_depth < 1 or not 0 < self.target < 1:
            raise MethodError(
                "Bayes needs chains, draws and max_depth of at least 1, a warmup from 0, and a target between 0 and 1."
            )
        if self.sampler not in ("auto", "numpy", "nutpie"):
            raise MethodError(f"Bayes knows the samplers 'auto', 'numpy' and 'nutpie', not {self.sampler!r}.")
        if self.sampler == "nutpie" and not nuts_nutpie.available():
            raise MethodError("nutpie is not installed: pip install 'nlmewidgets[bayes]', or leave out sampler.")
        priors = complete(problem.model)
        joint, eta = Joint.around(problem, start, priors, start)
        density = safely(joint)
        centre = joint.point(start, eta)
        _, _, deviance = density(centre[None])
        if not np.isfinite(deviance[0]):
            raise MethodError("The likelihood is not finite at the initial values; explore() shows where.")
        record = _Record(self, joint)
        yield record.iteration(0, "warm-up", start, float(deviance[0]), eta, 0.0)
        rngs = rng.spawn(self.chains)
        first = self.warmup // 4
        variance = _scales(density, joint, centre)
        points = _spread(density, centre, variance, rngs)
        if first:
            adaptation = Adaptation(variance, len(centre) ** -0.25, first, self.chains, self.target)
            chains = [Chain(p, 0, adaptation, r, self.max_depth) for p, r in zip(points, rngs, strict=True)]
            yield from record.drive(density, chains, 0)
            # Where they are now decides the coordinates they go on in.
            points = np.array([chain.position for chain in chains])
            rows, etas = joint.natural(points), joint.etas(points)
            values = record.mean_of(rows)
            moved, eta = Joint.around(problem, start, priors, values)
            points = np.array([moved.point(record.values_of(row), e) for row, e in zip(rows, etas, strict=True)])
            record.joint = joint = moved
            density = safely(joint)
            variance = _scales(density, joint, joint.point(values, eta))
        rest = self.warmup - first
        adaptation = Adaptation(variance, len(centre) ** -0.25, rest, self.chains, self.target)
        chains = [Chain(p, self.draws, adaptation, r, self.max_depth) for p, r in zip(points, rngs, strict=True)]
        if self.sampler == "nutpie":
            seed = int(rng.integers(2**31))
            yield from record.drive(density, chains, first, partial(nuts_nutpie.run, seed=seed))
        else:
            yield from record.drive(density, chains, first)

    def resume(self, problem: Problem, last: Iteration, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield iterations that add `draws` to each chain, by our sampler, with the step size and metric there are."""
        kept = last.arrays
        if "nuts_position" not in kept or "posterior" not in kept:
            yield from self.steps(problem, last.values, rng)
            return
        own = (kept["nuts_information"], kept["nuts_weighted"], kept["nuts_reference"])
        joint = Joint(problem, problem.space.initial, complete(problem.model), *own)
        points = kept["nuts_position"]
        method = replace(self, chains=len(points))
        record = _Record(method, joint, kept)
        yield replace(last, k=0, phase="sample", status="running", message="", progress=0.0)
        adaptation = Adaptation(np.array(kept["nuts_variance"]), float(kept["nuts_step"][0]), 0, len(points))
        rngs = rng.spawn(len(points))
        chains = [Chain(p, self.draws, adaptation, r, self.max_depth) for p, r in zip(points, rngs, strict=True)]
        yield from record.drive(safely(joint), chains, method.warmup)


def safely(joint: Joint) -> Density:
    """Return the density as one that gives −inf where it raises an exception."""

    def density(points: Array) -> tuple[Array, Array, Array]:
        try:
            return joint(points)
        except Exception:  # one impossible point must not end the chains
            if len(points) == 1:
                return np.array([-np.inf]), np.zeros_like(points), np.array([np.nan])
            parts = [density(point[None]) for point in points]
            value, gradient, deviance = (np.concatenate(column) for column in zip(*parts, strict=True))
            return value, gradient, deviance

    return density


def _scales(density: Density, joint: Joint, centre: Array) -> Array:
    """Return the inverse curvature along every coordinate at a point, by differences of the gradient.

    The random effects of different subjects are independent given the rest: one is moved in all subjects at once.
    """
    step, p, n = 1e-4, joint.n_population, joint.problem.n_subjects
    groups = [np.array([k]) for k in range(p)]
    groups += [np.arange(p + a * n, p + (a + 1) * n) for a in range(joint.problem.n_eta)]
    out = np.ones(len(centre))
    for places in groups:
        both = np.stack([centre, centre])
        both[0, places] += step
        both[1, places] -= step
        _, gradient, _ = density(both)
        curvature = -(gradient[0, places] - gradient[1, places]) / (2.0 * step)
        out[places] = np.where(curvature > 1e-8, 1.0 / np.maximum(curvature, 1e-8), 1.0)
    return out


def _spread(density: Density, centre: Array, variance: Array, rngs: list[np.random.Generator]) -> Array:
    """Return a starting point for each chain around the centre, where the density is a number."""
    noise = np.array([r.standard_normal(len(centre)) for r in rngs]) * np.sqrt(np.minimum(variance, 1.0))
    for _ in range(10):
        points = centre + noise
        bad = ~np.isfinite(density(points)[0])
        if not bad.any():
            break
        noise[bad] *= 0.5
    else:
        points[bad] = centre
    return points


class _Record:
    """What the chains have drawn, and the iterations it makes."""

    def __init__(self, method: Bayes, joint: Joint, before: Mapping[str, Array] | None = None) -> None:
        problem, space = joint.problem, joint.problem.space
        self.method, self.joint, self.space = method, joint, space
        old = 0 if before is None else before["posterior"].shape[1]
        chains, draws = method.chains, old + method.draws
        self.old, self.total = old, draws
        q, n = problem.n_eta, problem.n_subjects
        self.every = max(1, -(-chains * draws * max(q * n, 1) // MOST_ETAS))
        self.posterior = np.full((chains, draws, len(space.names)), np.nan)
        self.statistics = {name: np.full((chains, draws), np.nan) for name in STATISTICS}
        self.etas = np.full((chains, -(-draws // self.every), q, n), np.nan)
        self.filled = [old] * chains
        self.sum, self.square = np.zeros((2, q, n))
        self.moved = [name for name in space.names if not space.is_fixed(name)]
        self.columns = [space.names.index(name) for name in self.moved]
        self.met: tuple[float, float, float] = (np.nan, np.nan, np.nan)
        self.looked = 0
        self.k = 0
        if before is not None:
            self.posterior[:, :old] = before["posterior"]
            for name in STATISTICS:
                self.statistics[name][:, :old] = before[STATISTICS[name]]
            kept = before["posterior_eta"]
            places = np.arange(kept.shape[1]) * max(1, -(-old // max(kept.shape[1], 1)))
            keep = places % self.every == 0
            self.etas[:, places[keep] // self.every] = kept[:, keep]
            mean, sd = before["conditional_mean"], before["conditional_sd"]
            self.sum, self.square = chains * old * mean, chains * old * (sd**2 + mean**2)

    # ----------------------------------------------------------------- numbers

    def values_of(self, row: Array) -> Values:
        """Return population values from numbers in the order of `space.names`; fixed ones stay as they are."""
        base = self.joint.base
        if not self.columns:
            return base
        return self.space.from_dict({n: float(row[k]) for n, k in zip(self.moved, self.columns, strict=True)}, base)

    def mean_of(self, rows: Array) -> Values:
        """Return the values at the mean of draws (..., parameters)."""
        return self.values_of(rows.reshape(-1, rows.shape[-1]).mean(axis=0))

    def collect(self, chains: list[Chain]) -> None:
        """Move the fresh draws of the chains to the buffers."""
        for c, chain in enumerate(chains):
            fresh, chain.fresh = chain.fresh, []
            if not fresh:
                continue
            points = np.array([d.position for d in fresh])
            lo = self.filled[c]
            hi = self.filled[c] = lo + len(fresh)
            self.posterior[c, lo:hi] = self.joint.natural(points)
            columns = zip(
                *[(d.extra, d.divergent, d.depth, d.acceptance, d.value, d.energy) for d in fresh], strict=True
            )
            for name, column in zip(STATISTICS, columns, strict=True):
                self.statistics[name][c, lo:hi] = column
            etas = self.joint.etas(points)
            self.sum += etas.sum(axis=0)
            self.square += (etas**2).sum(axis=0)
            places = np.arange(lo, hi)
            keep = places % self.every == 0
            self.etas[c, places[keep] // self.every] = etas[keep]

    @property
    def n(self) -> int:
        """Draws that every chain has."""
        return min(self.filled)

    def diagnose(self, *, last: bool = False) -> tuple[float, float, float]:
        """Return the largest R-hat and the smallest bulk and tail ESS; anew after every twentieth of the draws."""
        if last or self.n - self.looked >= max(8, self.method.draws // 20):
            self.looked = self.n
            own = [self.posterior[:, : self.n, k] for k in self.columns]
            with np.errstate(all="ignore"):
                found = np.array([(rhat(x), ess_bulk(x), ess_tail(x)) for x in own]).reshape(-1, 3)
            if len(found) and np.isfinite(found).any(axis=0).all():
                self.met = (
                    float(np.nanmax(found[:, 0])),
                    float(np.nanmin(found[:, 1])),
                    float(np.nanmin(found[:, 2])),
                )
        return self.met

    # --------------------------------------------------------------- iterations

    def drive(
        self, density: Density, chains: list[Chain], warmed: int, run: Callable[..., Iterator[None]] = run
    ) -> Iterator[Iteration]:
        """Yield iterations while the chains run: after some transitions, or evaluations where these are many."""
        adaptation, method = chains[0].adaptation, self.method
        every = max(1, (method.warmup + method.draws) // 200) * len(chains)
        rounds = _rounds(self.joint.problem, len(chains))
        k, since, seen = self.k, 0, 0
        last: list[float] = []
        whole = (method.warmup if self.old == 0 else 0) + method.draws
        for _ in run(density, chains):
            since += 1
            now = adaptation.fed + sum(chain.done for chain in chains)
            place = [chain.extra for chain in chains]
            if since >= rounds or (now - seen >= every and place != last):
                since, seen, last, k = 0, now, place, k + 1
                self.collect(chains)
                done = now / len(chains) + (warmed if self.old == 0 else 0)
                yield self._now(k, chains, min(done / whole, 0.999))
        self.k = k
        if chains[0].draws:
            self.collect(chains)
            yield self._now(k + 1, chains, 1.0, final=True)

    def _now(self, k: int, chains: list[Chain], progress: float, *, final: bool = False) -> Iteration:
        adaptation = chains[0].adaptation
        sampling = self.n > self.old or (self.old > 0)
        points = np.array([chain.position for chain in chains])
        details = {"step": adaptation.step, "leapfrogs": float(sum(chain.leapfrogs for chain in chains))}
        if not sampling:
            deviance = float(np.mean([chain.extra for chain in chains]))
            values, eta = self.mean_of(self.joint.natural(points)), self.joint.etas(points).mean(axis=0)
            return self.iteration(k, "warm-up", values, deviance, eta, progress, details)
        worst, bulk, tail = self.diagnose(last=final)
        n = self.n
        divergent = self.statistics["divergent"][:, :n]
        details |= {
            "draws": float(n),
            "divergences": float(np.nansum(divergent)),
            "depth": float(np.nanmean(self.statistics["depth"][:, :n])),
            "acceptance": float(np.nanmean(self.statistics["acceptance"][:, :n])),
            "rhat": worst,
            "ess": bulk,
            "ess_tail": tail,
        }
        mean = self.sum / max(sum(self.filled), 1)
        sd = np.sqrt(np.maximum(self.square / max(sum(self.filled), 1) - mean**2, 0.0))
        kept = -(-n // self.every)
        arrays = {
            "posterior": self.posterior[:, :n],
            "posterior_eta": self.etas[:, :kept],
            "conditional_mean": mean,
            "conditional_sd": sd,
            "nuts_position": points,
            "nuts_variance": chains[0].variance,
            "nuts_step": np.array([adaptation.step]),
            "nuts_information": self.joint.information,
            "nuts_weighted": self.joint.weighted,
            "nuts_reference": self.joint.reference,
        } | {STATISTICS[name]: self.statistics[name][:, :n] for name in STATISTICS}
        deviance = float(np.nanmean(self.statistics["deviance"][:, :n]))
        values = self.mean_of(self.posterior[:, :n])
        status, message = self._verdict(details) if final else ("running", "")
        return self.iteration(k, "sample", values, deviance, mean, progress, details, arrays, status, message)

    def _verdict(self, details: Mapping[str, float]) -> tuple[str, str]:
        """Return the status and message of the end."""
        worst, bulk, tail = self.met
        chains, n = self.posterior.shape[0], self.n
        text = f"Drew {n} times in each of {chains} chains after {self.method.warmup} transitions of warm-up"
        if not self.columns:
            return "converged", text + "."
        text += f": R-hat at most {worst:.3f}, effective sample sizes at least {bulk:.0f} (bulk) and {tail:.0f} (tail)."
        text += self._divergences()
        if worst <= _GOOD:
            return "converged", text
        return "limit", text + " The chains have not met (R-hat above 1.05): resume for more draws, or raise warmup."

    def _divergences(self) -> str:
        flags = self.statistics["divergent"][:, : self.n] > 0
        count = int(flags.sum())
        if not count:
            return ""
        draws = self.posterior[:, : self.n][..., self.columns]
        sd = draws.std(axis=(0, 1))
        away = (draws[flags].mean(axis=0) - draws.mean(axis=(0, 1))) / np.where(sd > 0, sd, 1.0)
        k = int(np.abs(away).argmax())
        where = f", mostly where {self.moved[k]} is {'small' if away[k] < 0 else 'large'}" if abs(away[k]) > 0.3 else ""
        return (
            f" {count} trajectories diverged ({100.0 * count / flags.size:.2g} %){where}: the posterior may not be "
            "explored there; raise target towards 1."
        )

    def iteration(
        self,
        k: int,
        phase: str,
        values: Values,
        deviance: float,
        eta: Array,
        progress: float,
        details: Mapping[str, float] | None = None,
        arrays: Mapping[str, Array] | None = None,
        status: str = "running",
        message: str = "",
    ) -> Iteration:
        """Return an iteration."""
        for array in (arrays or {}).values():
            array.setflags(write=False)  # views of what is only ever appended to
        return Iteration(
            k=k,
            phase=phase,
            values=values,
            ofv=deviance,
            eta=eta,
            space=self.space,
            ofv_by=_DEVIANCE,
            status=status,
            message=message,
            progress=progress,
            details=details or {},
            arrays=arrays or {},
        )


STATISTICS = {
    "deviance": "posterior_deviance",
    "divergent": "nuts_divergent",
    "depth": "nuts_depth",
    "acceptance": "nuts_acceptance",
    "value": "nuts_log_density",
    "energy": "nuts_energy",
}
"""What is kept of every draw, and the name of its array."""


def _rounds(problem: Problem, chains: int) -> int:
    """Return after how many evaluations to give a sign of life: about a third of a second."""
    cost = 50.0 if isinstance(problem.structure, Ode) else 1.0
    return int(np.clip(1_000_000 / (cost * max(problem.n_obs, 1) * chains), 5, 200))
