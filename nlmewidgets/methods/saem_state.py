"""Where a stochastic approximation is: everything it needs to go on, as arrays that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.sample import ChainState, Proposal
from nlmewidgets.methods.mstep import Plan, Statistics

__all__ = ["Progress", "State", "restore_generator", "stored_generator"]


@dataclass(frozen=True)
class Progress:
    """How far the phases are.

    Attributes
    ----------
    explored, smoothed : int
        Iterations done in each phase.
    planned : int
        Iterations the smoothing is to have; 0 where that is not known yet.
    hold : int
        Iterations before which the exploration does not end, because it was extended.
    smoothing : bool
        Whether the next iteration is one of smoothing.
    settled : bool
        Whether the exploration ended because its rule was met.
    done : bool
    """

    explored: int = 0
    smoothed: int = 0
    planned: int = 0
    hold: int = 0
    smoothing: bool = False
    settled: bool = False
    done: bool = False

    @property
    def k(self) -> int:
        """Iterations done."""
        return self.explored + self.smoothed


@dataclass(frozen=True, eq=False)
class State:
    """The chains and what was learnt from them.

    Attributes
    ----------
    values : Values
        The population values of the chains.
    average : (free,) float
        The estimates in unconstrained coordinates: those of `values`, or their average while smoothing.
    chains : ChainState
    statistics : Statistics
    proposal : Proposal
        Around each subject's mode, at the values it was last looked at.
    first, second : (etas, subjects) float
        E[η] and E[η²] given the data, averaged while smoothing.
    trace : (iterations, free) float
        The last iterates, which the stopping rule looks at.
    ofv : float
        Laplace's objective when it was last looked at.
    progress : Progress
    """

    values: Values
    average: Array
    chains: ChainState
    statistics: Statistics
    proposal: Proposal
    first: Array
    second: Array
    trace: Array
    ofv: float
    progress: Progress

    @property
    def sd(self) -> Array:
        """Standard deviation of each eta given the data, (etas, subjects)."""
        return np.sqrt(np.maximum(self.second - self.first * self.first, 0.0))

    def arrays(self) -> dict[str, Array]:
        """Return the state by names; `restore` reads it back."""
        chains, statistics, p = self.chains, self.statistics, self.progress
        return {
            "conditional_mean": self.first,
            "conditional_sd": self.sd,
            "saem_second": self.second,
            "saem_theta": self.values.theta,
            "saem_omega": self.values.omega,
            "saem_sigma": self.values.sigma,
            "saem_average": self.average,
            "saem_eta": chains.eta,
            "saem_density": np.stack([chains.data, chains.prior]),
            "saem_prediction": chains.f,
            "saem_scale": np.array([*chains.scale, chains.block_scale, chains.accepted, chains.met]),
            "saem_u": statistics.u,
            "saem_uu": statistics.uu,
            "saem_squares": statistics.squares,
            "saem_slope": statistics.slope,
            "saem_information": statistics.information,
            "saem_centre": self.proposal.centre,
            "saem_precision": self.proposal.precision,
            "saem_trace": self.trace,
            "saem_progress": np.array(
                [p.explored, p.smoothed, p.planned, p.hold, p.smoothing, p.settled, p.done, self.ofv],
                dtype=float,
            ),
        }

    @classmethod
    def restore(cls, problem: Problem, plan: Plan, arrays: Mapping[str, Array]) -> State | None:
        """Return the state that `arrays` holds; None if there is none, or not of this problem."""
        if "saem_progress" not in arrays:
            return None
        a = {name: np.array(values) for name, values in arrays.items()}
        q, n, free = problem.n_eta, problem.n_subjects, len(problem.space.x_names)
        chains = a["saem_eta"].shape[1:2]
        p = len(plan.newton) + len(plan.newton_sigma)
        wanted = {
            "saem_eta": (q, *chains, n),
            "saem_prediction": (*chains, problem.n_obs),
            "saem_scale": (q + 3,),
            "saem_average": (free,),
            "saem_squares": (len(plan.scales),),
            "saem_information": (p, p),
        }
        if any(name not in a or a[name].shape != shape for name, shape in wanted.items()):
            return None
        *counts, ofv = a["saem_progress"]
        explored, smoothed, planned, hold = (int(x) for x in counts[:4])
        *scale, block_scale, accepted, met = a["saem_scale"]
        data, prior = a["saem_density"]
        values = Values(a["saem_theta"], a["saem_omega"], a["saem_sigma"])
        own = float(block_scale), a["saem_prediction"], float(accepted), float(met)
        return cls(
            values=values,
            average=a["saem_average"],
            chains=ChainState(a["saem_eta"], data, prior, np.array(scale), *own),
            statistics=Statistics(a["saem_u"], a["saem_uu"], a["saem_squares"], a["saem_slope"], a["saem_information"]),
            proposal=Proposal.around(a["saem_centre"], a["saem_precision"]),
            first=a["conditional_mean"],
            second=a["saem_second"],
            trace=a["saem_trace"],
            ofv=float(ofv),
            progress=Progress(explored, smoothed, planned, hold, *(bool(x) for x in counts[4:])),
        )


_WORD = 32


def stored_generator(state: Mapping[str, Any]) -> Array:
    """Return the state of a PCG64 generator (`bit_generator.state`) as whole numbers; empty for another kind."""
    if state["bit_generator"] != "PCG64":
        return np.zeros(0)
    words = [(state["state"][name] >> (_WORD * i)) & (2**_WORD - 1) for name in ("state", "inc") for i in range(4)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], dtype=float)


def restore_generator(rng: np.random.Generator, stored: Array) -> None:
    """Put a generator where `stored_generator` found one; nothing where it found another kind."""
    state = rng.bit_generator.state
    if not len(stored) or state["bit_generator"] != "PCG64":
        return
    *words, has, uinteger = (int(x) for x in stored)
    whole = [sum(word << (_WORD * i) for i, word in enumerate(part)) for part in (words[:4], words[4:])]
    inner = {"state": whole[0], "inc": whole[1]}
    rng.bit_generator.state = {"bit_generator": "PCG64", "state": inner, "has_uint32": has, "uinteger": uinteger}
