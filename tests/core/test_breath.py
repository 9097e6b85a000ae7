"""A computation takes breath often enough to be ended or to wait, and is the same for that."""

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.core.breath import Stopped, breathe, watched


def counted(call):
    breaths = []
    with watched(lambda: breaths.append(1)):
        out = call()
    return out, len(breaths)


@pytest.fixture
def data(theophylline) -> nw.Data:
    return theophylline


@pytest.fixture
def model(oral_model) -> nw.Model:
    return oral_model()


def test_every_evaluation_of_an_objective_takes_breath(model, data) -> None:
    found, breaths = counted(lambda: model.ofv(data, method="focei"))
    assert breaths >= 2
    assert found == model.ofv(data, method="focei")


def test_an_integration_takes_breath_in_every_step() -> None:
    import sympy as sp

    amount = nw.states("amount")
    k = sp.Symbol("k", positive=True)
    decay = nw.Model(
        amount, {k: nw.LogNormal(0.5)}, odes={amount: -k * amount**2}, initial={amount: 1.0}, residual=nw.Additive(1.0)
    )
    data = nw.datasets.load("theophylline")
    times = data.on_grid(50)
    problem = decay.problem(times)
    slots = problem.slots(problem.typical(problem.space.initial.theta).slots, np.zeros((0, problem.n_subjects)))
    f, breaths = counted(lambda: problem.predict(slots))
    assert breaths >= 5
    curves, hours = f.reshape(problem.n_subjects, -1), times.time.reshape(problem.n_subjects, -1)
    begins = curves[:, :1]  # the dose and what was there
    np.testing.assert_allclose(curves, begins / (1.0 + 0.5 * begins * hours), rtol=1e-4)


def test_what_is_stopped_leaves_nothing_behind(model, data) -> None:
    before = model.ofv(data, method="laplace")
    left = [3]

    def stop() -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped

    with pytest.raises(Stopped), watched(stop):
        model.ofv(data, method="laplace")
    breathe()  # nobody watches any more
    assert model.ofv(data, method="laplace") == before
