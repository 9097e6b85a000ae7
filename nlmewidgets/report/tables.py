"""The tables of the gallery: each diagnostic as a call on a fit, with how to read it and when it misleads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from nlmewidgets.diagnostics import (
    covariate_tests,
    ebe_table,
    effects,
    eta_samples,
    influence,
    integrand,
    iofv,
    iofv_difference,
    notes,
    npc,
    npde,
    npde_test,
    outlying_observations,
    outlying_subjects,
    predicted_shrinkage,
    profile,
    quantile_residuals,
    shrinkage_table,
    variance_split,
    vpc,
)
from nlmewidgets.fit import Fit, compare
from nlmewidgets.fit.run import fit as run
from nlmewidgets.methods.focei import FOCEI

__all__ = ["TABLES", "Table"]


@dataclass(frozen=True)
class Table:
    """A table of the gallery.

    Attributes
    ----------
    title, code : str
        Its name, and the call that makes it.
    make : callable
        Fit → table.
    read, misleads : str
        How to read it, and when it misleads, in a sentence each.
    """

    title: str
    code: str
    make: Callable[[Fit], pd.DataFrame]
    read: str
    misleads: str


def _two(fit: Fit) -> tuple[Fit, Fit]:
    """Return a fit and one of the same model by FO."""
    return fit, run(fit.start, fit.data, "fo")


TABLES = (
    Table(
        "Predictions and residuals",
        "fit.table()",
        lambda fit: fit.table(n=100),
        "One row per observation with NONMEM's names: near N(0, 1) are WRES (if linear), CWRES, IWRES, NPDE.",
        "Each is approximate in its own way; only NPDE and NPD are right whatever the nonlinearity and shrinkage.",
    ),
    Table(
        "Residuals by simulation",
        "nw.diagnostics.npde(fit)",
        lambda fit: npde(fit, n=100, seed=1),
        "EWRES and NPDE are decorrelated within a subject, PD and NPD are not: those belong in pictures over time.",
        "Of n replicates nothing beyond 1/n can be told: extremes are cut at about ±3.",
    ),
    Table(
        "Tests of NPDE",
        "nw.diagnostics.npde_test(fit.npde()['NPDE'])",
        lambda fit: npde_test(npde(fit, n=200, seed=1)["NPDE"]).to_frame("value"),
        "Mean, variance and shape against N(0, 1), each with its p value, and one for all.",
        "With much data anything is rejected, with little nothing: look at the picture first.",
    ),
    Table(
        "Randomised quantile residuals",
        "nw.diagnostics.quantile_residuals(problem, values, eta)",
        lambda fit: quantile_residuals(fit.problem, fit.values, fit.etas.T).to_frame("residual"),
        "Standard normal at the EBEs for data of every kind.",
        "Those of counts and classes are partly drawn; all shrink where data are sparse.",
    ),
    Table(
        "Visual predictive check",
        "fit.vpc().table",
        lambda fit: vpc(fit, n=200, seed=1).table,
        "Per bin and quantile: observed, and the band of what the model simulates; 'outside' marks a misfit.",
        "One in twenty is outside by chance, and neighbours are correlated.",
    ),
    Table(
        "Numerical predictive check",
        "nw.diagnostics.npc(fit)",
        lambda fit: npc(fit, n=200, seed=1),
        "The share of data outside each prediction interval beside its band.",
        "Errors at different times may cancel.",
    ),
    Table(
        "Objective by subject",
        "nw.diagnostics.iofv(fit)",
        lambda fit: iofv(fit).to_frame(),
        "They add up to the objective; large ones are badly explained, or have many observations.",
        "Parts of subjects with different numbers of observations do not compare.",
    ),
    Table(
        "Whom two fits suit",
        "nw.diagnostics.iofv_difference(one, two)",
        lambda fit: iofv_difference(*_two(fit), by="laplace"),
        "Negative: the second fits the subject better; 'without' is the difference that all others make.",
        "A difference made by one or two subjects is no evidence for a model, whatever its size.",
    ),
    Table(
        "Comparison on one scale",
        "nw.compare(one, two).table",
        lambda fit: compare(dict(zip(("focei", "fo"), _two(fit), strict=True))).table,
        "−2 log L itself with its error, and the criteria made of it; smaller is better.",
        "Weights take one of the models for true; nested ones belong to the likelihood-ratio test below it.",
    ),
    Table(
        "EBEs with their variances",
        "nw.diagnostics.ebe_table(problem, values, eta)",
        lambda fit: ebe_table(fit.problem, fit.values, fit.etas.T),
        "ETA and its conditional variance ETC, as NONMEM's phi file has them.",
        "The variance is of a Gaussian around the mode; where the density is skewed take conditional moments.",
    ),
    Table(
        "Random effects",
        "fit.effects()",
        lambda fit: effects(fit, draws=100),
        "EBE and its error beside conditional mean and SD: a large difference is a skewed density.",
        "Means of subjects with few data are close to zero by shrinkage, not because they are typical.",
    ),
    Table(
        "A draw of the random effects",
        "nw.diagnostics.eta_samples(fit)",
        lambda fit: eta_samples(fit, seed=1),
        "One draw for each subject given its data: together they are distributed as the model says, at any shrinkage.",
        "A single subject's draw is not its best guess; make another with another seed.",
    ),
    Table(
        "Shrinkage, every definition",
        "nw.diagnostics.shrinkage_table(problem, values, eta)",
        lambda fit: shrinkage_table(fit.problem, fit.values, fit.etas.T),
        "By standard deviation and variance, of EBEs and of their conditional variances.",
        "Programs report different ones: 30 % by SD is 51 % by variance.",
    ),
    Table(
        "Shrinkage to expect of a design",
        "nw.diagnostics.predicted_shrinkage(problem, values)",
        lambda fit: predicted_shrinkage(fit.problem, fit.values),
        "What the sampling times alone leave to the population, before there are data.",
        "It takes the model and its omegas for true.",
    ),
    Table(
        "Covariate tests",
        "nw.diagnostics.covariate_tests(problem, values, eta)",
        lambda fit: covariate_tests(fit.problem, fit.values, fit.etas.T),
        "The effect, its test given those on the other etas, and the fall of −2 log L it is worth before refitting.",
        "One Newton step: for large effects refit; covariates that go together share their worth.",
    ),
    Table(
        "Influence",
        "nw.diagnostics.influence(problem, values, method)",
        lambda fit: influence(fit.problem, fit.values, FOCEI(), fit.etas.T),
        "Estimates without each subject, by one Newton step, and how far they move.",
        "For the most extreme subjects ('held' above all) refit without them.",
    ),
    Table(
        "Outlying observations",
        "nw.diagnostics.outlying_observations(fit, level=1)",
        lambda fit: outlying_observations(fit, level=1.0, n=100),
        "The farthest first, with p values adjusted for how many were looked at.",
        "A subject's random effects move all of its observations: several from one subject are one outlier.",
    ),
    Table(
        "Outlying subjects",
        "nw.diagnostics.outlying_subjects(fit)",
        lambda fit: outlying_subjects(fit, n=100),
        "A subject's part of the objective against that of simulated subjects of its design.",
        "Small p of many subjects are a wrong model, not many outliers.",
    ),
    Table(
        "Sources of variance",
        "nw.diagnostics.variance_split(problem, values)",
        lambda fit: variance_split(fit.problem, fit.values, n=200),
        "Var(Y) by random effect and by residual part, simulated and linearised.",
        "Parts of correlated effects overlap, and their interaction may be negative.",
    ),
    Table(
        "One subject's integral",
        "nw.diagnostics.integrand(problem, values, subject).contributions",
        lambda fit: integrand(fit.problem, fit.values, fit.problem.data.ids[0]).contributions,
        "−2 log of a subject's likelihood by each method, and how far it is from the finest quadrature.",
        "Differences of subjects may cancel in the sum: see the comparison for that.",
    ),
    Table(
        "Profile likelihood",
        "nw.diagnostics.profile(fit, 'ka').intervals",
        lambda fit: profile(fit, "ka").intervals,
        "How much −2 log L rises as a parameter is moved away, everything else fitted again.",
        "Its interval is as good as the method's objective: FO's may exclude the truth.",
    ),
    Table(
        "Notes",
        "nw.diagnostics.notes(fit)",
        lambda fit: pd.DataFrame({"note": notes(fit) or ["nothing to note"]}),
        "Bounds, vanished variances, correlations near one, flip-flop, shrinkage and condition, in words.",
        "That there is nothing to note is no sign that the model is right.",
    ),
)
