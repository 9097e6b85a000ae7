"""Sliders, number fields and Fix toggles are three views of one parameter."""

from __future__ import annotations

import pytest
import traitlets as tl

import nlmewidgets as nw


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_every_population_parameter_has_a_row(explorer) -> None:
    assert tuple(explorer.initial.rows) == explorer.model.names


def test_moving_a_slider_sets_parameter_and_field(explorer) -> None:
    row = explorer.initial.rows["CL"]
    row.slider.value = 600
    assert explorer.params["CL"] == float(f"{0.28 * 100**0.6:.4g}")  # a tenth to ten times the start, four digits
    assert row.field.value == f"{explorer.params['CL']:.5g}"


def test_typing_a_number_sets_parameter_and_slider_in_full(explorer) -> None:
    row = explorer.initial.rows["CL"]
    row.field.value = "3.14159265"
    assert explorer.params["CL"] == 3.14159265
    assert row.value_at(row.slider.value) == pytest.approx(3.14159265, rel=0.5 * (100**0.001 - 1) + 1e-3)


def test_setting_the_trait_moves_the_widgets(explorer) -> None:
    explorer.params = {"omega_V": 0.17}
    row = explorer.initial.rows["omega_V"]
    assert row.field.value == "0.17"
    assert row.slider.value == row.position(0.17)


def test_a_front_end_that_repeats_what_it_was_sent_does_not_move_the_parameter(explorer) -> None:
    explorer.params = {"CL": 2.7515268325742337}
    slider = explorer.initial.rows["CL"].slider
    slider.set_state({"value": slider.value})
    slider.notify_change({"name": "value", "old": 0, "new": slider.value, "owner": slider, "type": "change"})
    assert explorer.params["CL"] == 2.7515268325742337


def test_slider_positions_and_values_are_inverse(explorer) -> None:
    for row in explorer.initial.rows.values():
        for position in range(0, 1001, 50):
            assert abs(row.position(row.value_at(position)) - position) <= 1


def test_a_number_outside_the_slider_widens_it(explorer) -> None:
    row = explorer.initial.rows["ka"]
    row.field.value = "250"
    assert explorer.params["ka"] == 250
    assert row.high > 250
    assert row.slider.value == row.position(250)


@pytest.mark.parametrize("text", ["", "abc", "1,5", "nan", "inf", "-1", "0", "__import__('os')"])
def test_an_impossible_number_is_refused_in_words_and_undone(explorer, text) -> None:
    row = explorer.initial.rows["ka"]
    row.field.value = text
    assert explorer.params["ka"] == 1.5
    assert row.field.value == "1.5"
    (alert,) = row.root.children[1:]
    assert "stays." in alert.value
    assert row.refused
    row.field.value = "1.7"  # a good number takes the sentence away
    assert explorer.params["ka"] == 1.7
    assert len(row.root.children) == 1


@pytest.mark.parametrize("name", ["ka", "omega_CL", "additive"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_by_code_an_impossible_number_is_refused_and_nothing_moves(explorer, name, value) -> None:
    before = dict(explorer.params)
    with pytest.raises(tl.TraitError, match=f"{name} cannot be"):
        explorer.params = {name: value}
    assert explorer.params == before


def test_a_value_at_its_bound_is_shown_at_the_end_of_the_slider(explorer) -> None:
    row = explorer.initial.rows["additive"]
    row.show(0.0)
    assert (row.slider.value, row.field.value) == (0, "0")
    assert row.low > 0


def test_positive_parameters_are_on_a_log_scale_and_others_are_not(explore, data) -> None:
    b = nw.theta("b", 0.5)
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3, effect=b * (nw.covariate("WT") / 70 - 1)),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
        correlation={("CL", "V"): 0.2},
    )
    rows = explore(model, data).initial.rows
    assert {name for name, row in rows.items() if not row.log} == {"b", "corr_CL_V"}
    assert rows["CL"].value_at(500) == pytest.approx(2.8)
    assert (rows["corr_CL_V"].low, rows["corr_CL_V"].high) == (-0.99, 0.99)


def test_fix_keeps_a_parameter_in_the_fit(explorer) -> None:
    explorer.initial.rows["ka"].fix.value = True
    assert explorer.fixed == ("ka",)
    explorer.start().wait()
    assert explorer.result.theta["ka"] == 1.5
    assert explorer.result.theta["CL"] != 2.8


def test_fixed_parameters_of_the_model_start_out_fixed(explore, model, data) -> None:
    explorer = explore(model.fix("V", "additive"), data)
    assert explorer.fixed == ("V", "additive")
    assert explorer.initial.rows["V"].fix.value


def test_reset_returns_to_the_initial_values(explorer) -> None:
    before = dict(explorer.params)
    explorer.params = {"ka": 3.0, "additive": 0.2}
    explorer.reset()
    assert explorer.params == before


def test_guess_moves_the_sliders_to_starting_values_from_the_data(explorer) -> None:
    explorer.params = {"CL": 0.05, "V": 900.0, "additive": 8.0}
    explorer.initial.rows["ka"].fix.value = True
    explorer.guessing.button.click()
    explorer.wait()
    # The FOCEI estimates of theophylline are CL 2.75 and V 31.8.
    assert explorer.params["CL"] == pytest.approx(2.75, rel=0.2)
    assert explorer.params["V"] == pytest.approx(31.8, rel=0.2)
    assert explorer.params["ka"] == 1.5
    assert explorer.message.startswith("Starting values by pooled fit from NCA")
    assert not explorer.guessing.button.disabled
