"""One place, five steps: every panel has its step, and another model or other data go on in the same place."""

from __future__ import annotations

import gc

import pytest
import traitlets as tl

import nlmewidgets as nw
from nlmewidgets.panels.registry import PANELS
from nlmewidgets.panels.steps import STEPS


def test_every_panel_has_a_step_and_every_step_a_panel() -> None:
    assert {panel.step for panel in PANELS.values()} == set(STEPS)


def test_steps_and_tabs_and_the_trait_move_together(explore, model, data) -> None:
    explorer = explore(model, data)
    assert (explorer.step, explorer.panel, explorer.steps.row.value) == ("initial", "population", "initial")
    explorer.panel = "individuals"
    explorer.steps.row.value = "judge"
    assert explorer.panels[explorer.panel].step == "judge"
    explorer.steps.row.value = "initial"
    assert explorer.panel == "individuals"
    explorer.steps.tabs["initial"].selected_index = 0
    assert explorer.panel == "population"
    shown = [step for step, tabs in explorer.steps.tabs.items() if tabs.layout.display != "none"]
    assert shown == ["initial"]
    assert [name for name, panel in explorer.panels.items() if panel.visible] == ["population"]
    with pytest.raises(tl.TraitError, match="There is no panel 'x'"):
        explorer.panel = "x"


def test_another_structure_goes_on_in_the_same_place(explore, model, data) -> None:
    explorer = explore(model, data)
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), names=["ofv"])
    explorer.start().wait(60)
    explorer.panel = "structure"
    chooser = explorer.panels["structure"].chooser
    chooser.structure = "oral_2cpt"
    chooser.error.value = "Combined"
    explorer.panels["structure"].take()
    explorer.wait(60)
    assert explorer.panel == "structure"
    assert "Q" in explorer.params
    assert explorer.message.startswith("Starting values")
    assert len(explorer.fits) == 1
    assert explorer.result is None
    expected = explorer.model_now.ofv(data, method="focei")
    assert explorer.ofv == pytest.approx(expected, abs=1e-6)
    assert seen[-1] == explorer.ofv  # whoever observed the explorer still does
    explorer.panel = "equations"
    assert "Q" in explorer.panels["equations"].parameters.root.value
    assert explorer.start().wait(60).status == "converged"
    assert len(explorer.fits) == 2


def test_other_data_keep_the_sliders_and_what_is_known_of_the_selection(explore, model, data) -> None:
    explorer = explore(model, data, selected_ids=(1, 5))
    explorer.params = {"CL": 3.3}
    explorer.use(data=data.subset(data.ids[:4]))
    assert explorer.params["CL"] == 3.3
    assert explorer.selected_ids == (1,)
    explorer.params = {"CL": 3.0}
    explorer.wait(30)
    assert explorer.ofv == pytest.approx(explorer.model_now.ofv(explorer.data, method="focei"), abs=1e-6)


def test_panels_of_the_model_before_observe_no_more(explore, model, data) -> None:
    explorer = explore(model, data)
    count = {name: len(kinds.get("change", ())) for name, kinds in explorer._trait_notifiers.items()}
    for _ in range(3):
        explorer.use(model)
    gc.collect()
    assert {name: len(kinds.get("change", ())) for name, kinds in explorer._trait_notifiers.items()} == count


def test_what_does_not_go_together_changes_nothing(explore, model, data) -> None:
    explorer = explore(model, data)
    before = explorer.model
    with pytest.raises(nw.NlmeError):
        explorer.use(nw.Model(nw.covariate("NONE") * nw.time, {}, residual=nw.Additive(1.0)))
    assert explorer.model is before
    explorer.method, explorer.method_options = "saem", {"explore": 100_000}
    explorer.start()
    with pytest.raises(nw.NlmeError, match="stop it"):
        explorer.use(model)


def test_a_model_changed_in_the_environment_comes_back_from_the_workspace(explore, model, data, tmp_path) -> None:
    path = tmp_path / "w.json"
    first = explore(model, data, workspace=path)
    first.use(nw.library.oral_2cpt())
    first.params = {"Q": 7.0}
    first.close()
    again = explore(model, data, workspace=path)
    assert again.params["Q"] == 7.0
    assert again.model.names == first.model.names


def test_another_model_begins_with_nothing_to_undo_no_arrows_and_runs_followed(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.params = {"CL": 3.3}
    explorer._latest.wait(10)
    explorer.method, explorer.method_options = "saem", {"explore": 100_000}
    explorer.start()
    explorer.params = {"CL": 3.4}
    assert not explorer.follow  # of this run
    explorer.stop().wait(10)
    assert explorer.can_undo
    assert explorer.arrows
    explorer.use(nw.library.oral_2cpt())
    assert not explorer.can_undo
    assert explorer.initial.undo.disabled
    assert explorer.follow
    assert set(explorer.arrows) <= set(explorer.model.names)
