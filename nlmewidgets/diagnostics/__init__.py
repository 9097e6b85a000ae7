"""Tables with the field's column names, each a pure function of (problem, values, etas)."""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.diagnostics.covariates import covariate_tests
from nlmewidgets.diagnostics.curves import individual_curves, population_band, typical_curve
from nlmewidgets.diagnostics.ebe import covariate_summary, ebe_covariates
from nlmewidgets.diagnostics.influence import influence
from nlmewidgets.diagnostics.integrand import Integrand, integrand
from nlmewidgets.diagnostics.look import distribution, spaghetti
from nlmewidgets.diagnostics.nca import nca, nca_summary
from nlmewidgets.diagnostics.residuals import residual_table
from nlmewidgets.diagnostics.shrinkage import shrinkage
from nlmewidgets.diagnostics.variance import variance_split

__all__ = [
    "Integrand",
    "covariate_summary",
    "covariate_tests",
    "distribution",
    "ebe_covariates",
    "individual_curves",
    "influence",
    "integrand",
    "nca",
    "nca_summary",
    "population_band",
    "residual_table",
    "shrinkage",
    "spaghetti",
    "typical_curve",
    "variance_split",
]

VERBS["covariate_tests"] = covariate_tests
VERBS["influence"] = influence
VERBS["integrand"] = integrand
VERBS["nca"] = nca
VERBS["residual_table"] = residual_table
VERBS["shrinkage"] = shrinkage
VERBS["variance"] = variance_split
