"""Perception and recordings: psychometric functions, tuning curves, decays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sympy as sp

from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import LogitNormal
from nlmewidgets.core.symbols import time
from nlmewidgets.library.designs import Design, Shipped, every
from nlmewidgets.library.residual import Additive
from nlmewidgets.library.structure import Parts, structure

__all__ = ["biexponential_decay", "exponential_decay", "psychometric", "tuning_curve", "tuning_curve_circular"]

AXIS = "The stimulus stands in TIME, so that it is the axis of every picture."


def _fractions(data: Data) -> Data:
    records = data.records.assign(DV=data.records["DV"] / data.records["N"])
    return replace(data, records=records, units={**data.units, "DV": "fraction correct"}, origin={"kind": "frame"})


@structure(
    "Psychometric function, Weibull", "Perception", residual=Additive(0.07),
    demo=Shipped("psychometric", {"threshold": 8.0, "steepness": 2.2}, _fractions),
    keywords="psychometric function perception psychophysics contrast detection weibull threshold forced choice",
    note=f"DV is the fraction of correct answers. {AXIS}",
)  # fmt: skip
def psychometric(
    threshold: Any = 8.0, steepness: Any = 2.0, guess: Any = LogitNormal(0.5, fixed=True), lapse: Any = 0.02
) -> Parts:
    return Parts(guess + (1 - guess - lapse) * (1 - sp.exp(-((time / threshold) ** steepness))))


@structure(
    "Tuning curve, Gaussian", "Neurons", residual=Additive(2.0), note=AXIS,
    demo=Shipped("tuning_curves", {"base": 4.0, "top": 30.0}),
    keywords="neuron neural neuroscience tuning curve orientation receptive field gaussian bell firing rate",
)  # fmt: skip
def tuning_curve(base: Any = 5.0, top: Any = 30.0, preferred: Any = 90.0, width: Any = 22.0) -> Parts:
    return Parts(base + top * sp.exp(-(((time - preferred) / width) ** 2) / 2))


@structure(
    "Tuning curve of a direction (von Mises)", "Neurons", residual=Additive(2.0),
    demo=Design(every(0.0, 330.0, 30.0), units={"TIME": "degrees", "DV": "spikes/s"}),
    keywords="neuron neural neuroscience tuning curve direction circular periodic von mises firing rate",
    note=f"In degrees of a full circle. {AXIS}",
)  # fmt: skip
def tuning_curve_circular(base: Any = 5.0, top: Any = 30.0, preferred: Any = 160.0, concentration: Any = 2.0) -> Parts:
    angle = (time - preferred) * sp.pi / 180
    return Parts(base + top * sp.exp(concentration * (sp.cos(angle) - 1)))


TRACE = Design(every(0.0, 60.0, 4.0), units={"TIME": "ms", "DV": "mV"})


@structure(
    "Exponential decay", "Recordings", residual=Additive(0.3), demo=TRACE,
    keywords="exponential decay recording relaxation fluorescence synaptic current time constant mono-exponential",
)  # fmt: skip
def exponential_decay(amplitude: Any = 10.0, tau: Any = 15.0, offset: Any = 2.0) -> Parts:
    return Parts(offset + amplitude * sp.exp(-time / tau))


@structure(
    "Bi-exponential decay", "Recordings", residual=Additive(0.3), demo=TRACE,
    keywords="bi-exponential biexponential double two exponential decay recording relaxation time constants",
    means={"amplitude": ("height of the fast decay at time 0", "response"), "tau": ("fast time constant", "time")},
)  # fmt: skip
def biexponential_decay(
    amplitude: Any = 8.0, tau: Any = 3.0, amplitude2: Any = 6.0, tau2: Any = 25.0, offset: Any = 2.0
) -> Parts:
    return Parts(offset + amplitude * sp.exp(-time / tau) + amplitude2 * sp.exp(-time / tau2))
