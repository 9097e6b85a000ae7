"""What takes many fits or many looks at a model: starting values, many starts, simulation and estimation."""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.diagnostics.likelihood_profile import LikelihoodProfile, profile
from nlmewidgets.studies.guess import Guess, guess
from nlmewidgets.studies.multistart import Multistart, multistart
from nlmewidgets.studies.simest import SimulationStudy, simest

__all__ = ["Guess", "LikelihoodProfile", "Multistart", "SimulationStudy", "guess", "multistart", "profile", "simest"]

VERBS["guess"] = guess
