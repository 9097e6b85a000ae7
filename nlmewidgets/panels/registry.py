"""Every panel of the environment."""

from __future__ import annotations

from nlmewidgets.panels.code import CodePanel
from nlmewidgets.panels.converge import ConvergePanel
from nlmewidgets.panels.covariates import CovariatesPanel
from nlmewidgets.panels.design import DesignPanel
from nlmewidgets.panels.estimates import EstimatesPanel
from nlmewidgets.panels.individuals import IndividualsPanel
from nlmewidgets.panels.integral import IntegralPanel
from nlmewidgets.panels.judge import JudgePanel
from nlmewidgets.panels.linked import LinkedPanel
from nlmewidgets.panels.look_covariates import LookCovariatesPanel
from nlmewidgets.panels.look_profiles import ProfilesPanel
from nlmewidgets.panels.look_tables import NcaPanel, SummaryPanel
from nlmewidgets.panels.microscope import MicroscopePanel
from nlmewidgets.panels.model import EquationsPanel, StructurePanel
from nlmewidgets.panels.population import PopulationPanel
from nlmewidgets.panels.race import RacePanel
from nlmewidgets.panels.runs import RunsPanel
from nlmewidgets.panels.shrinkage import ShrinkagePanel
from nlmewidgets.panels.surface import SurfacePanel
from nlmewidgets.panels.takeaway import TakeAwayPanel
from nlmewidgets.panels.variance import VariancePanel

__all__ = ["PANELS"]

PANELS = {
    "profiles": ProfilesPanel,
    "data-covariates": LookCovariatesPanel,
    "summary": SummaryPanel,
    "nca": NcaPanel,
    "equations": EquationsPanel,
    "structure": StructurePanel,
    "population": PopulationPanel,
    "individuals": IndividualsPanel,
    "converge": ConvergePanel,
    "microscope": MicroscopePanel,
    "estimates": EstimatesPanel,
    "covariates": CovariatesPanel,
    "shrinkage": ShrinkagePanel,
    "diagnostics": LinkedPanel,
    "judge": JudgePanel,
    "surface": SurfacePanel,
    "integral": IntegralPanel,
    "variance": VariancePanel,
    "design": DesignPanel,
    "runs": RunsPanel,
    "race": RacePanel,
    "code": CodePanel,
    "takeaway": TakeAwayPanel,
}
"""Every panel of the environment by its name, in the order of the tabs of its step."""
