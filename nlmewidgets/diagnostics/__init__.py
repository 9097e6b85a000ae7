"""Tables with the field's column names, each a pure function of (problem, values, etas)."""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.diagnostics.covariates import covariate_tests
from nlmewidgets.diagnostics.cumulative import quantile_residuals
from nlmewidgets.diagnostics.curves import individual_curves, population_band, typical_curve
from nlmewidgets.diagnostics.design import predicted_shrinkage
from nlmewidgets.diagnostics.ebe import covariate_summary, ebe_covariance, ebe_covariates, ebe_table
from nlmewidgets.diagnostics.influence import influence
from nlmewidgets.diagnostics.integrand import Integrand, integrand
from nlmewidgets.diagnostics.iofv import iofv, iofv_difference
from nlmewidgets.diagnostics.likelihood_profile import LikelihoodProfile, profile
from nlmewidgets.diagnostics.look import distribution, single_dose, spaghetti
from nlmewidgets.diagnostics.nca import nca, nca_summary
from nlmewidgets.diagnostics.normality import npde_test
from nlmewidgets.diagnostics.notes import flip_flop, notes
from nlmewidgets.diagnostics.npc import npc
from nlmewidgets.diagnostics.npde import fit_table, npde
from nlmewidgets.diagnostics.outliers import outlying_observations, outlying_subjects
from nlmewidgets.diagnostics.random_effects import effects, eta_samples
from nlmewidgets.diagnostics.residuals import residual_table
from nlmewidgets.diagnostics.sampling import efficiency, precision, sampling_design
from nlmewidgets.diagnostics.shrinkage import shrinkage, shrinkage_table
from nlmewidgets.diagnostics.surface import Surface, surface
from nlmewidgets.diagnostics.variance import variance_split
from nlmewidgets.diagnostics.variance_time import variance_in_time
from nlmewidgets.diagnostics.vpc import VPC, vpc

__all__ = [
    "Integrand",
    "LikelihoodProfile",
    "Surface",
    "VPC",
    "covariate_summary",
    "covariate_tests",
    "distribution",
    "ebe_covariance",
    "ebe_covariates",
    "ebe_table",
    "effects",
    "efficiency",
    "eta_samples",
    "flip_flop",
    "individual_curves",
    "influence",
    "integrand",
    "iofv",
    "iofv_difference",
    "nca",
    "nca_summary",
    "notes",
    "npc",
    "npde",
    "npde_test",
    "outlying_observations",
    "outlying_subjects",
    "population_band",
    "precision",
    "predicted_shrinkage",
    "profile",
    "quantile_residuals",
    "residual_table",
    "sampling_design",
    "shrinkage",
    "shrinkage_table",
    "single_dose",
    "spaghetti",
    "surface",
    "typical_curve",
    "variance_in_time",
    "variance_split",
    "vpc",
]

VERBS["covariate_tests"] = covariate_tests
VERBS["effects"] = effects
VERBS["influence"] = influence
VERBS["integrand"] = integrand
VERBS["nca"] = nca
VERBS["residual_table"] = residual_table
VERBS["shrinkage"] = shrinkage
VERBS["variance"] = variance_split
VERBS["fit_table"] = fit_table
VERBS["iofv"] = iofv
VERBS["npc"] = npc
VERBS["npde"] = npde
VERBS["vpc"] = vpc
