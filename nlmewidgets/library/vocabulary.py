"""What a parameter's name means, in every structure: one name, one meaning, one default variability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import sympy as sp

from nlmewidgets.core.distributions import Distribution, LogitNormal, LogNormal, Normal

__all__ = ["VOCABULARY", "Argument", "Word", "argument"]


@dataclass(frozen=True)
class Word:
    """The meaning of a parameter's name.

    Attributes
    ----------
    meaning, unit : str
        The unit in dimensions (``volume/time``): whatever the data use.
    sd : float
        Default standard deviation of the random effect, on the scale of `kind`; 0: none.
    kind : type of distribution
    """

    meaning: str
    unit: str
    sd: float = 0.3
    kind: type[Distribution] = LogNormal


_RATE, _FLOW, _CONC = "1/time", "volume/time", "amount/volume"

VOCABULARY: dict[str, Word] = {
    # disposition
    "CL": Word("clearance (CL/F after an oral dose)", _FLOW),
    "V": Word("volume of the central compartment (V/F after an oral dose)", "volume"),
    "Q": Word("clearance between central and first peripheral compartment", _FLOW, 0.0),
    "V2": Word("volume of the first peripheral compartment", "volume", 0.0),
    "Q3": Word("clearance between central and second peripheral compartment", _FLOW, 0.0),
    "V3": Word("volume of the second peripheral compartment", "volume", 0.0),
    "k": Word("elimination rate constant", _RATE),
    "k12": Word("rate constant from central to first peripheral compartment", _RATE, 0.0),
    "k21": Word("rate constant from first peripheral to central compartment", _RATE, 0.0),
    "k13": Word("rate constant from central to second peripheral compartment", _RATE, 0.0),
    "k31": Word("rate constant from second peripheral to central compartment", _RATE, 0.0),
    "A": Word("coefficient of the first exponential, per unit of dose", "1/volume"),
    "B": Word("coefficient of the second exponential, per unit of dose", "1/volume"),
    "C": Word("coefficient of the third exponential, per unit of dose", "1/volume", 0.0),
    "alpha": Word("rate constant of the first, fastest exponential", _RATE),
    "beta": Word("rate constant of the second exponential", _RATE),
    "gamma": Word("rate constant of the third, slowest exponential", _RATE, 0.0),
    "Vmax": Word("largest rate of the saturable elimination", "amount/time"),
    "Km": Word("concentration at half the largest rate of elimination", _CONC, 0.0),
    "CLm": Word("clearance of the metabolite, over the fraction formed", _FLOW),
    "Vm": Word("volume of the metabolite, over the fraction formed", "volume"),
    # absorption
    "ka": Word("absorption rate constant", _RATE),
    "Tlag": Word("lag of the absorption", "time"),
    "Tk0": Word("duration of the zero-order absorption", "time"),
    "MTT": Word("mean transit time", "time"),
    "ka2": Word("absorption rate constant of the second, slower path", _RATE, 0.0),
    "Fr": Word("fraction absorbed at ka; the rest at ka2", "1", 0.3, LogitNormal),
    # target-mediated disposition
    "R0": Word("free target without drug", _CONC),
    "kon": Word("association rate constant", "volume/(amount·time)", 0.0),
    "koff": Word("dissociation rate constant", _RATE, 0.0),
    "kdeg": Word("degradation rate constant of the target", _RATE, 0.0),
    "kint": Word("internalisation rate constant of the complex", _RATE, 0.0),
    "KSS": Word("quasi-steady-state constant (koff + kint)/kon", _CONC, 0.0),
    # effects
    "E0": Word("response without drug", "response"),
    "Emax": Word("largest change of the response", "response"),
    "EC50": Word("concentration at half the largest effect", _CONC),
    "ED50": Word("dose at half the largest effect", "dose"),
    "Imax": Word("largest fractional inhibition", "1", 0.0, LogitNormal),
    "IC50": Word("concentration at half the largest inhibition", _CONC),
    "ID50": Word("dose at half the largest inhibition", "dose"),
    "Smax": Word("largest fractional stimulation", "1"),
    "SC50": Word("concentration at half the largest stimulation", _CONC),
    "hill": Word("steepness (Hill coefficient)", "1", 0.0),
    "ke0": Word("rate constant of the effect compartment", _RATE),
    "base": Word("response at baseline", "response"),
    "kin": Word("production rate of the response", "response/time"),
    "kout": Word("loss rate constant of the response", _RATE),
    "start": Word("response at time 0", "response"),
    "slope": Word("effect per concentration", "volume/amount"),
    "feedback": Word("exponent of the feedback from the circulating cells", "1", 0.0),
    # tumours and growth
    "kg": Word("growth rate constant", _RATE),
    "decay": Word("rate at which the growth rate falls", _RATE, 0.0),
    "lambda0": Word("rate constant of exponential growth", _RATE),
    "lambda1": Word("rate of linear growth", "weight/time"),
    "psi": Word("sharpness of the switch from exponential to linear growth", "1", 0.0),
    "k1": Word("rate constant from one stage of damage to the next", _RATE),
    "k2": Word("kill rate per concentration", "volume/(amount·time)"),
    "asym": Word("asymptote", "response"),
    "mid": Word("time of the fastest growth", "time"),
    "scale": Word("time scale of the growth", "time"),
    "shape": Word("shape of the curve", "1", 0.0),
    # counts
    "fall": Word("log of the ratio of the count at time 0 to that in the end", "1", 0.3, Normal),
    "onset": Word("time constant of a change", "time", 0.0),
    # recordings and perception
    "amplitude": Word("height of the decay at time 0", "response"),
    "tau": Word("time constant", "time"),
    "amplitude2": Word("height of the slow decay at time 0", "response"),
    "tau2": Word("time constant of the slow decay", "time"),
    "offset": Word("level at the end", "response", 1.0, Normal),
    "threshold": Word("stimulus at which 63 % of what can be learned is seen", "stimulus"),
    "steepness": Word("steepness of the psychometric function", "1", 0.2),
    "guess": Word("probability of a correct answer by chance", "1", 0.0, LogitNormal),
    "lapse": Word("probability of an error at any stimulus", "1", 0.0, LogitNormal),
    "top": Word("height of the peak above the baseline", "response"),
    "preferred": Word("stimulus of the peak", "stimulus", 10.0, Normal),
    "width": Word("width of the peak (its standard deviation)", "stimulus", 0.2),
    "concentration": Word("concentration of the peak (von Mises)", "1", 0.2),
}
"""Every parameter name of the library."""


@dataclass(frozen=True)
class Argument:
    """A parameter of a structure: its meaning, unit, and what it is where nothing is given."""

    name: str
    meaning: str
    unit: str
    default: Distribution

    @property
    def symbol(self) -> sp.Symbol:
        """The SymPy symbol, positive where the default distribution is."""
        low = self.default.bounds[0]
        return sp.Symbol(self.name, **{"positive" if low is not None and low >= 0 else "real": True})

    def value(self, given: Any) -> Any:
        """Return what goes into ``parameters=``: the default where None, at another typical value where a number."""
        if given is None:
            return self.default
        if isinstance(given, Real) and not isinstance(given, bool | sp.Basic):
            return replace(self.default, typical=float(given))
        return given


def argument(name: str, default: float | Distribution, meaning: str | None = None, unit: str | None = None) -> Argument:
    """Return the argument `name` at a default; a number gets the distribution of the vocabulary."""
    word = VOCABULARY[name]
    value = default if isinstance(default, Distribution) else word.kind(float(default), sd=word.sd)
    return Argument(name, meaning or word.meaning, unit or word.unit, value)
