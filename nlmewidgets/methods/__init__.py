"""Estimation methods: each a frozen dataclass of options with one generator."""

from __future__ import annotations

from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.bayes import Bayes
from nlmewidgets.methods.fo import FO
from nlmewidgets.methods.foce import FOCE
from nlmewidgets.methods.focei import FOCEI
from nlmewidgets.methods.foi import FOI
from nlmewidgets.methods.imp import IMP
from nlmewidgets.methods.laplace import Laplace
from nlmewidgets.methods.quadrature import AGQ
from nlmewidgets.methods.saem import SAEM

__all__ = ["METHODS", "Iteration", "Method"]

METHODS: dict[str, type[Method]] = {cls.name: cls for cls in (FO, FOI, FOCE, FOCEI, Laplace, AGQ, SAEM, IMP, Bayes)}
"""Every method by its name."""
