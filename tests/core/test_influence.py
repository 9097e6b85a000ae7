"""Parameters that no observation depends on are found, and only those."""

from __future__ import annotations

import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.influence import idle_parameters

k, base = sp.Symbol("k", positive=True), sp.Symbol("base", real=True)
SMOKER, AGE = nw.covariate("SMOKER"), nw.covariate("AGE")


def study(**columns: object) -> nw.Data:
    table = pd.DataFrame({"ID": [1, 1, 2, 2, 3, 3], "TIME": [0, 1] * 3, "DV": [9.0, 5, 8, 4, 7, 3]})
    return nw.Data.from_frame(table.assign(**{"SMOKER": 0, "AGE": [20, 20, 40, 40, 60, 60]} | columns))


def decay(effect: object = 0, base_of: object = None, **changes: object) -> nw.Model:
    parameters = {k: nw.LogNormal(0.5, sd=0.2, effect=effect), base: base_of or nw.Normal(9.0, sd=1.0)}
    parts = {"prediction": base * sp.exp(-k * nw.time), "parameters": parameters, "residual": nw.Additive(0.5)}
    return nw.Model(**(parts | changes))


def test_every_parameter_of_a_sound_model_has_a_part():
    assert idle_parameters(decay(nw.theta("b", 0.0) * AGE).problem(study())) == []


def test_a_level_never_seen_has_no_effect():
    assert idle_parameters(decay(nw.theta("b", 0.4) * SMOKER).problem(study())) == ["b"]
    assert idle_parameters(decay(nw.theta("b", 0.4) * SMOKER).problem(study(SMOKER=[0, 0, 1, 1, 0, 0]))) == []
    assert idle_parameters(decay(nw.theta("b", 0.4, fixed=True) * SMOKER).problem(study())) == []


def test_observations_that_all_come_before_a_process_say_nothing_of_it():
    table = study().records.assign(TIME=0.0)
    assert idle_parameters(decay().problem(nw.Data.from_frame(table))) == ["k"]


def test_what_is_flat_near_its_start_only_is_not_idle():
    # No subject is older than 100: the slope acts only where the threshold has moved.
    late = nw.theta("b", 0.1) * sp.Max(0, AGE - nw.theta("from", 100.0, lower=0))
    assert idle_parameters(decay(late).problem(study())) == []


def test_an_error_is_not_idle_because_predictions_are_0_at_the_initial_values():
    fast = decay(residual=nw.Combined(0.5, 0.1)).with_values({"k": 1e4})
    late = nw.Data.from_frame(study().records.assign(TIME=[1.0, 2.0] * 3))
    assert not fast.predict(late)["PRED"].any()
    assert idle_parameters(fast.problem(late)) == []


def test_what_scales_a_random_effect_is_not_idle():
    scaled = nw.theta("mean", 9.0) + nw.theta("spread", 2.0, lower=0) * nw.eta("eta_base", sd=1.0, fixed=True)
    assert idle_parameters(decay(base_of=scaled).problem(study())) == []


def test_a_fit_of_an_idle_parameter_is_refused():
    with pytest.raises(nw.ModelError) as error:
        decay(nw.theta("b", 0.4) * SMOKER).fit(study(), method="fo")
    assert str(error.value) == (
        "The parameter b cannot influence any observation of these data; fix it (fixed=True), or leave it out of the "
        "model."
    )
