"""Is one Newton step what refits do, does the covariate test keep its level, is shrinkage what was predicted?

``make influence``, or ``python benchmarks/influence.py [data sets] [warfarin.csv]``.

1. One-step influence of each subject against refits without it: correlations of Cook's distance (more than 0.95) and of
   every parameter, for theophylline, phenobarbital and warfarin (whose data are not shipped: skipped where absent).
2. Level of the test of a covariate that has no effect, beside one that has, at three shrinkages: on conditional moments
   and on EBEs.
3. Predicted shrinkage against that of EBEs of simulated data, for five designs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.diagnostics import covariate_tests, influence, predicted_shrinkage, shrinkage
from nlmewidgets.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.diagnostics.test_covariates import line, moments, response, study  # noqa: E402
from tests.diagnostics.test_design import DESIGNS  # noqa: E402

WARFARIN = ROOT.parent / "shared" / "data" / "check-only" / "warfarin.csv"


def examples(warfarin: Path) -> dict[str, tuple[nw.Model, nw.Data] | str]:
    """Return models with their data, or why there is none."""
    out: dict[str, tuple[nw.Model, nw.Data] | str] = {
        "theophylline": (
            nw.library.oral_1cpt(
                ka=nw.LogNormal(1.5, sd=0.6),
                CL=nw.LogNormal(2.8, sd=0.3),
                V=nw.LogNormal(32.0, sd=0.2),
                residual=nw.Additive(0.7),
            ),
            nw.datasets.load("theophylline"),
        ),
        "phenobarbital": (
            nw.library.iv_1cpt(CL=nw.LogNormal(0.006, sd=0.5), V=nw.LogNormal(1.4, sd=0.4), residual=nw.Additive(3.0)),
            nw.datasets.load("phenobarbital"),
        ),
    }
    if not warfarin.exists():
        return out | {"warfarin": f"there is no {warfarin}: nw.datasets.load('warfarin') says where to get it"}
    model = nw.library.oral_transit_1cpt(
        transits=1,
        MTT=nw.LogNormal(2.0, sd=0.7),
        CL=nw.LogNormal(0.15, sd=0.3),
        V=nw.LogNormal(9.0, sd=0.2),
        residual=nw.Combined1(0.5, 0.1),
    )
    data = nw.Data.read_csv(warfarin, covariates=["wt", "age", "sex"]).filter("DVID == 'cp'")
    return out | {"warfarin": (model, data)}


def deletion(model: nw.Model, data: nw.Data) -> dict[str, float]:
    """Return the correlations of one step with refits: of Cook's distance, and of every parameter."""
    fit = model.fit(data, "focei", tolerance=1e-9)
    table = influence(fit.problem, fit.values, METHODS["focei"](), fit.etas.T)
    ids = list(data.ids)
    refits = [fit.model.fit(data.subset([j for j in ids if j != i]), "focei", tolerance=1e-9) for i in ids]
    space = fit.start.space
    moves = np.array([space.pack(r.values) for r in refits]) - space.pack(fit.values)
    information = np.linalg.inv(fit.uncertainty_by("R").matrix)
    cook = np.sqrt(np.einsum("np,pq,nq->n", moves, information, moves))
    out = {"Cook": float(np.corrcoef(table["cook"], cook)[0, 1])}
    for name in space.names:
        if name in table:
            real = [r.estimates[name] for r in refits]
            out[name] = float(np.corrcoef(table[name], real)[0, 1])
    return out


def level(sd: float, repeats: int) -> tuple[float, float, float]:
    """Return shrinkage and how often the two tests of a covariate without effect reject at 5 %."""
    rng = np.random.default_rng(11)
    first = study(rng, sd, 0.3)
    z = first.subject_covariates()["Z"].to_numpy()[:, None]
    model = line(sd, 0.25 + 0.3**2)
    rows = []
    for _ in range(repeats):
        problem = model.problem(replace(first, records=first.records.assign(DV=response(rng, sd, 0.3, z))))
        own = moments(problem, model.values)
        row = covariate_tests(problem, model.values, own[0], own, ["Z"]).set_index("eta").loc["eta_a"]
        rows.append((row["shrinkage"], row["p"] < 0.05, row["ebe_p"] < 0.05))
    shrunk, ours, ebe = np.mean(np.array(rows, dtype=float), axis=0)
    return float(shrunk), float(ours), float(ebe)


def shrunk(model: nw.Model, data: nw.Data) -> list[tuple[str, float, float]]:
    """Return predicted and simulated shrinkage of every eta."""
    predicted = predicted_shrinkage(model.problem(data), model.values, n=40)["sd"]
    records = data.records.copy()
    records.loc[data.observed, "DV"] = model.simulate(data, seed=3)["DV"].to_numpy()
    problem = model.problem(replace(data, records=records))
    with np.errstate(all="ignore"):
        typical = problem.typical(model.values.theta).slots
        modes = find_modes(problem, typical, np.linalg.inv(model.values.omega), model.values.sigma)
    seen = shrinkage(problem, model.values, modes.eta)
    return [(name, float(predicted[name]), float(seen[name])) for name in predicted.index]


def main(repeats: int = 1000, warfarin: Path = WARFARIN) -> None:
    """Print the figures."""
    began = time.perf_counter()
    print("One-step influence against refits without each subject: correlations")
    for name, example in examples(warfarin).items():
        if isinstance(example, str):
            print(f"  {name:<14} skipped: {example}")
            continue
        found = deletion(*example)
        print(f"  {name:<14} " + "  ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
        if not found["Cook"] > 0.95:
            raise SystemExit(f"The Cook distance of {name} correlates by {found['Cook']:.3f} only.")
    low, high = stats.binom.interval(0.95, repeats, 0.05)
    print(f"\nRejections at 5 % of a covariate without effect on this eta, per cent of {repeats} data sets")
    print(f"(its level is kept between {100 * low / repeats:.1f} and {100 * high / repeats:.1f})")
    print("  shrinkage   conditional   EBE")
    for sd in (0.2, 0.75, 2.4):
        share, ours, ebe = level(sd, repeats)
        print(f"  {100 * share:>8.0f} %   {100 * ours:>9.1f}   {100 * ebe:>5.1f}", flush=True)
    print("\nShrinkage, per cent            predicted   simulated")
    for name, (model, data) in DESIGNS.items():
        for eta, predicted, seen in shrunk(model, data):
            print(f"  {name:<18} {eta:<10} {100 * predicted:>7.1f}   {100 * seen:>9.1f}", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1000,
        Path(sys.argv[2]) if len(sys.argv) > 2 else WARFARIN,
    )
