"""A run in the browser: why it stopped, the way back through its iterations, a race."""

from __future__ import annotations

SETUP = """\
import nlmewidgets as nw
data = nw.datasets.load("theophylline")
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
    residual=nw.Additive(0.7),
)
explorer = nw.explore(model, data, max_iterations=2)
explorer
"""


def test_a_run_is_explained_gone_on_with_played_back_and_raced(open_notebook, pictures) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    root = page.locator(".nlme").first

    def button(name: str):
        return root.get_by_role("button", name=name)

    # Why did it stop?
    button("Start").click()
    page.get_by_text("It did not converge").wait_for()
    button("Resume").last.click()  # the remedy's, not the fit box's
    page.get_by_text("It converged").wait_for()
    assert notebook.execute("print([f.status for f in explorer.fits])").strip() == "['limit', 'converged']"

    # Playback, by keys.
    button("4 Fit").click()
    handle = root.locator(".noUi-handle[aria-label^=Iteration]")
    handle.focus()
    for _ in range(3):
        handle.press("ArrowLeft")
    notebook.settle()
    shown, last = map(int, notebook.execute("print(explorer.iteration, explorer.trace[-1].k)").split())
    assert last - 3 <= shown < last
    button("3 Initial estimates").click()
    page.get_by_text(f"Curves at iteration {shown}").wait_for()
    button("4 Fit").click()
    button("Newest").click()
    button("3 Initial estimates").click()
    page.get_by_text("Curves at the FOCEI estimates (converged)").wait_for()

    # A race.
    button("4 Fit").click()
    page.get_by_role("tab", name="Race", exact=True).click()
    page.get_by_label("SAEM").uncheck()
    button("Race").click()
    page.get_by_text("2 of 2 lanes reached their end.").wait_for()
    page.screenshot(path=pictures / "running-race.png")
    button("Take winner").click()
    notebook.settle()
    same = "print(explorer.params['CL'] == explorer.result.theta['CL'], len(explorer.fits))"
    assert notebook.execute(same).strip() == "True 4"
