"""What a model expects before it has seen the data: parameters drawn from the priors, and data simulated with them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.default_priors import Priors, complete
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.priors import InverseWishart
from nlmewidgets.core.verbs import VERBS

__all__ = ["draw_values", "prior_predictive"]

_TRIES = 1000


def prior_predictive(model: Model, data: Data, n: int = 100, *, seed: int | None = None) -> pd.DataFrame:
    """Simulate data with parameters drawn from the priors; see `Model.prior_predictive`."""
    if not (isinstance(n, int | np.integer) and n >= 1):
        raise ModelError(f"n={n!r} is not a whole number from 1; give the number of draws from the priors.")
    rng = np.random.default_rng(seed)
    problem, priors = model.problem(data), complete(model)
    refuse_what_has_two(model.space, priors)
    columns = problem.observation_columns()
    frames = []
    for k in range(n):
        values = draw_values(model.space, priors, rng)
        with np.errstate(all="ignore"):  # wide priors reach where a prediction overflows: NaN or inf in the table
            f, y = problem.simulate(values, 1, rng)
        frames.append(
            pd.DataFrame({"REP": k + 1, "ID": columns["ID"], "TIME": columns["TIME"], "IPRED": f[0], "DV": y[0]})
        )
    return pd.concat(frames, ignore_index=True)


def refuse_what_has_two(space: ParameterSpace, priors: Priors) -> None:
    """Refuse a parameter whose density is a product of two priors.

    Raises
    ------
    ModelError
        Naming it.
    """
    for key, prior in priors.natural.items():
        if not isinstance(key, tuple):
            continue
        sds = [space.omega_names[space.eta.index(e)] for e in key] if isinstance(prior, InverseWishart) else []
        members = {space.eta.index(e) for e in key}
        sds += [name for name, i, j in space.correlations if {i, j} <= members]
        both = [name for name in sds if name in priors.natural]
        if both:
            raise ModelError(
                f"'{both[0]}' has two priors, its own and the {type(prior).__name__} of its block: their product "
                "cannot be drawn from; leave one out."
            )


def draw_values(space: ParameterSpace, priors: Priors, rng: np.random.Generator) -> Values:
    """Return population values drawn from the priors, by rejection where these reach beyond what a parameter can be.

    Raises
    ------
    ModelError
        If a thousand draws are all impossible.
    """
    for _ in range(_TRIES):
        numbers: dict[str, float] = {}
        for key, prior in priors.natural.items():
            if isinstance(key, tuple):
                place = [space.eta.index(e) for e in key]
                block = prior.draw_block(len(key), rng)  # type: ignore[attr-defined]
                sd = np.sqrt(np.diag(block))
                if isinstance(prior, InverseWishart):
                    numbers |= {space.omega_names[i]: float(s) for i, s in zip(place, sd, strict=True)}
                for name, i, j in space.correlations:
                    if i in place and j in place:
                        a, b = place.index(i), place.index(j)
                        numbers[name] = float(block[a, b] / (sd[a] * sd[b]))
            else:
                x = prior.draw(rng)
                numbers[key] = float(np.sqrt(x)) if prior.of_variance else x
        for p in (*space.theta, *space.sigma):
            if p.name in priors.coordinate:
                numbers[p.name] = p.natural(float(rng.normal(*priors.coordinate[p.name])))
            x = numbers.get(p.name, p.value)
            if (p.lower is not None and x <= p.lower) or (p.upper is not None and x >= p.upper):
                break
        else:
            try:
                numbers = {name: x for name, x in numbers.items() if not space.is_fixed(name)}
                return space.from_dict(numbers)
            except ModelError:  # correlations drawn one by one that form no covariance matrix
                continue
    raise ModelError("A thousand draws from the priors gave no possible parameters; narrow the priors to their bounds.")


VERBS["prior_predictive"] = prior_predictive
