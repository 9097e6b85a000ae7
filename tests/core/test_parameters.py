"""theta, Omega and sigma: packing is exact, names are honest, impossible numbers are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlmewidgets import ModelError
from nlmewidgets.core.parameters import Parameter, ParameterSpace, Values

BOUNDS = {"identity": (None, None), "log": (0.5, None), "reflected": (None, 9.0), "logit": (0.5, 9.0)}


def parameter(name: str, scale: str, *, fixed: bool = False) -> Parameter:
    return Parameter(name, 2.0, *BOUNDS[scale], fixed)


@st.composite
def spaces(draw: st.DrawFn) -> ParameterSpace:
    """Return a space: thetas and sigmas of all four kinds, etas in blocks that may interleave."""
    kinds = st.tuples(st.sampled_from(list(BOUNDS)), st.booleans())
    theta = [parameter(f"t{k}", s, fixed=f) for k, (s, f) in enumerate(draw(st.lists(kinds, max_size=4)))]
    sigma = [parameter(f"s{k}", s, fixed=f) for k, (s, f) in enumerate(draw(st.lists(kinds, max_size=2)))]
    q = draw(st.integers(0, 4))
    group = draw(st.lists(st.integers(0, 3), min_size=q, max_size=q))
    blocks = tuple(tuple(k for k in range(q) if group[k] == g) for g in dict.fromkeys(group))
    omega = np.zeros((q, q))
    for block in blocks:
        omega[np.ix_(block, block)] = draw(covariances(len(block)))
    flags = draw(st.lists(st.booleans(), min_size=len(blocks), max_size=len(blocks)))
    held = draw(st.lists(st.booleans(), min_size=q, max_size=q))
    same = list(range(q))
    for n, block in enumerate(blocks):
        if len(block) == 1:
            held[block[0]] = flags[n]
        alike = [m for m in range(n) if len(blocks[m]) == len(block) and same[blocks[m][0]] == blocks[m][0]]
        if alike and draw(st.booleans()):
            flags[n] = flags[alike[0]]
            for k, owner in zip(block, blocks[alike[0]], strict=True):
                same[k], held[k] = owner, held[owner]
            omega[np.ix_(block, block)] = omega[np.ix_(blocks[alike[0]], blocks[alike[0]])]
    rows = tuple(tuple(map(float, row)) for row in omega)
    eta = tuple(f"eta_{k}" for k in range(q))
    return ParameterSpace(
        tuple(theta), tuple(sigma), eta, rows, blocks, tuple(flags), sd_fixed=tuple(held), same=tuple(same)
    )


@st.composite
def covariances(draw: st.DrawFn, q: int) -> np.ndarray:
    chol = np.tril(np.array(draw(st.lists(st.floats(-1, 1), min_size=q * q, max_size=q * q))).reshape(q, q), -1)
    chol[np.diag_indices(q)] = draw(st.lists(st.floats(0.1, 2), min_size=q, max_size=q))
    return chol @ chol.T


def correlation(matrix: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.diag(matrix))
    return matrix / np.outer(sd, sd)


def vectors(space: ParameterSpace) -> st.SearchStrategy[np.ndarray]:
    n = len(space.x_names)
    return st.lists(st.floats(-2, 2), min_size=n, max_size=n).map(np.array)


# ------------------------------------------------------------------- pack and unpack


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_pack_undoes_unpack(data):
    space = data.draw(spaces())
    x = data.draw(vectors(space))
    np.testing.assert_allclose(space.pack(space.unpack(x)), x, rtol=1e-9, atol=1e-9)


@given(spaces())
@settings(max_examples=100, deadline=None)
def test_unpack_undoes_pack(space):
    back, there = space.unpack(space.pack(space.initial)), space.initial
    for name in ("theta", "omega", "sigma"):
        np.testing.assert_allclose(getattr(back, name), getattr(there, name), rtol=1e-12, atol=1e-12)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_vector_gives_possible_values_and_leaves_the_fixed_alone(data):
    space = data.draw(spaces())
    values = space.unpack(data.draw(vectors(space)))
    for group, start, now in (
        (space.theta, space.initial.theta, values.theta),
        (space.sigma, space.initial.sigma, values.sigma),
    ):
        for p, before, after in zip(group, start, now, strict=True):
            assert p.lower is None or after > p.lower
            assert p.upper is None or after < p.upper
            assert not p.fixed or after == before
    for block, fixed in zip(space.blocks, space.omega_fixed, strict=True):
        part = values.omega[np.ix_(block, block)]
        assert np.linalg.eigvalsh(part).min() > 0
        start = space.initial.omega[np.ix_(block, block)]
        kept = np.array([space.sd_fixed[k] for k in block])
        np.testing.assert_allclose(np.diag(part)[kept], np.diag(start)[kept], rtol=1e-12)
        if fixed:
            np.testing.assert_allclose(correlation(part), correlation(start), rtol=1e-9, atol=1e-12)
        owner = [space.same[k] for k in block]
        np.testing.assert_array_equal(part, values.omega[np.ix_(owner, owner)])
    outside = np.ones_like(values.omega, dtype=bool)
    for block in space.blocks:
        outside[np.ix_(block, block)] = False
    np.testing.assert_allclose(values.omega[outside], 0.0, atol=1e-14)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pull_back_is_the_derivative_along_the_vector(data):
    space = data.draw(spaces())
    x = data.draw(vectors(space))
    draw = np.random.default_rng(len(x))
    q = len(space.eta)
    a, b, c = draw.normal(size=len(space.theta)), draw.normal(size=(q, q)), draw.normal(size=len(space.sigma))
    b = b + b.T

    def function(at: np.ndarray) -> float:
        v = space.unpack(at)
        return float(a @ v.theta + (b * v.omega).sum() + c @ v.sigma)

    step = 1e-6
    differences = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]
    np.testing.assert_allclose(space.pull_back(space.unpack(x), a, b, c), differences, rtol=1e-6, atol=1e-6)


def test_pull_back_keeps_leading_axes():
    space = ParameterSpace((parameter("t", "log"),), (), ("eta_t",), ((0.04,),), ((0,),), (False,))
    values = space.initial
    one = space.pull_back(values, np.ones(1), np.ones((1, 1)), np.ones(0))
    many = space.pull_back(values, np.ones((3, 2, 1)), np.ones((3, 2, 1, 1)), np.ones((3, 2, 0)))
    np.testing.assert_array_equal(many, np.broadcast_to(one, (3, 2, 2)))


@pytest.mark.parametrize("scale", BOUNDS)
def test_the_four_transforms_by_hand(scale):
    p = parameter("p", scale)
    by_hand = {"identity": 2.0, "log": math.log(1.5), "reflected": math.log(7.0), "logit": math.log(1.5 / 7.0)}
    assert p.scale == scale
    assert p.free(2.0) == pytest.approx(by_hand[scale], rel=1e-15)
    assert p.natural(by_hand[scale]) == pytest.approx(2.0, rel=1e-15)
    for x in (-1e9, 1e9):  # a step too far stays a number inside the bounds, or at them
        assert math.isfinite(p.natural(x))


def test_coordinates_are_named_by_their_transform():
    space = ParameterSpace(
        tuple(parameter(scale, scale) for scale in BOUNDS),
        (parameter("s", "log", fixed=True),),
        ("eta_a", "eta_b", "eta_c"),
        ((1.0, 0.0, 0.1), (0.0, 1.0, 0.0), (0.1, 0.0, 1.0)),
        ((0, 2), (1,)),
        (False, True),
    )
    assert space.x_names == (
        "identity",
        "log log",
        "log(bound - reflected)",
        "logit logit",
        "log chol eta_a",
        "chol eta_c,eta_a",
        "log chol eta_c",
    )
    assert len(space.pack(space.initial)) == len(space.x_names)


# -------------------------------------------------------------------------- by name


def space_of_three() -> ParameterSpace:
    """Return thetas CL, V; etas CL, ka, V with CL and V correlated 0.5; sigma additive."""
    return ParameterSpace(
        (Parameter("CL", 2.8, 0.0), Parameter("V", 32.0, 0.0, 100.0)),
        (Parameter("additive", 0.7, 0.0),),
        ("eta_CL", "eta_ka", "eta_V"),
        ((0.09, 0.0, 0.03), (0.0, 0.36, 0.0), (0.03, 0.0, 0.04)),
        ((0, 2), (1,)),
        (False, False),
    )


def test_names_are_thetas_standard_deviations_correlations_sigmas():
    space = space_of_three()
    assert space.names == ("CL", "V", "omega_CL", "omega_ka", "omega_V", "corr_CL_V", "additive")
    numbers = space.to_dict(space.initial)
    assert tuple(numbers) == space.names
    assert numbers == pytest.approx(
        {"CL": 2.8, "V": 32.0, "omega_CL": 0.3, "omega_ka": 0.6, "omega_V": 0.2, "corr_CL_V": 0.5, "additive": 0.7}
    )


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_from_dict_undoes_to_dict(data):
    space = data.draw(spaces())
    values = space.unpack(data.draw(vectors(space)))
    back = space.from_dict(space.to_dict(values))
    for name in ("theta", "omega", "sigma"):
        np.testing.assert_allclose(getattr(back, name), getattr(values, name), rtol=1e-9, atol=1e-12)


def test_from_dict_changes_what_is_named_only():
    space = space_of_three()
    changed = space.from_dict({"omega_CL": 0.6})
    # The correlation stays, so the covariance moves with the standard deviation.
    np.testing.assert_allclose(changed.omega, [[0.36, 0, 0.06], [0, 0.36, 0], [0.06, 0, 0.04]], rtol=1e-12)
    assert changed.theta.tolist() == space.initial.theta.tolist()
    assert space.from_dict({"V": 40}).theta.tolist() == [2.8, 40]
    assert space.from_dict({"additive": 1}, base=changed).omega.tolist() == changed.omega.tolist()


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            {"Q": 1},
            "There is no population parameter 'Q'; there are CL, V, omega_CL, omega_ka, omega_V, corr_CL_V, additive.",
        ),
        ({"CL": math.nan}, "'CL' is nan; give a finite number."),
        ({"additive": math.inf}, "'additive' is inf; give a finite number."),
        ({"CL": "2"}, "'CL' is '2'; give a finite number."),
        ({"omega_CL": -0.3}, "'omega_CL' is -0.3; a standard deviation is positive (sd=0 in the model: no eta)."),
        ({"omega_CL": 0}, "'omega_CL' is 0; a standard deviation is positive (sd=0 in the model: no eta)."),
        ({"corr_CL_V": 1.0}, "These correlations of eta_CL, eta_V do not form a covariance matrix; lower them."),
        ({"CL": -1}, "'CL' starts at -1, not above its lower bound 0; move one of them."),
        ({"V": 100}, "'V' starts at 100, not below its upper bound 100; move one of them."),
    ],
)
def test_impossible_numbers_are_refused(numbers, sentence):
    space = space_of_three()
    with pytest.raises(ModelError) as error:
        space.starting_at(space.from_dict(numbers))
    assert str(error.value) == sentence


def test_starting_at_moves_the_initial_values():
    space = space_of_three()
    values = space.from_dict({"CL": 3, "corr_CL_V": 0.1})
    moved = space.starting_at(values)
    assert moved.initial == values
    assert moved.names == space.names


# --------------------------------------------------------------------- fixed or free


def test_fixing_takes_parameters_out_of_the_vector_and_freeing_brings_them_back():
    space = space_of_three()
    held = space.with_fixed(["CL", "additive", "omega_ka"])
    assert [n for n in held.names if held.is_fixed(n)] == ["CL", "omega_ka", "additive"]
    assert len(held.x_names) == len(space.x_names) - 3
    assert held.with_fixed(["CL", "additive", "omega_ka"], fixed=False) == space


@pytest.mark.parametrize(
    "names", [["omega_CL"], ["omega_V"], ["corr_CL_V"], ["omega_CL", "omega_V"], ["omega_CL", "corr_CL_V"]]
)
def test_elements_of_a_block_are_fixed_one_by_one(names):
    space = space_of_three()
    held = space.with_fixed(names)
    assert {n for n in held.names if held.is_fixed(n)} == set(names)
    assert len(held.x_names) == len(space.x_names) - len(names)
    x = held.pack(held.initial) + 0.3
    before, after = space.to_dict(space.initial), held.to_dict(held.unpack(x))
    for name in ("omega_ka", "omega_CL", "omega_V", "corr_CL_V"):
        assert (after[name] == pytest.approx(before[name], rel=1e-12)) == (name in names)
    assert held.with_fixed(names, fixed=False) == space


@pytest.mark.parametrize("ask", [lambda s: s.with_fixed(["Q"]), lambda s: s.is_fixed("Q")])
def test_an_unknown_name_is_refused(ask):
    with pytest.raises(ModelError, match=r"^There is no population parameter 'Q'; there are CL, V, "):
        ask(space_of_three())


def test_the_table_has_a_row_for_every_parameter():
    table = space_of_three().with_fixed(["V"]).table()
    assert table["kind"].tolist() == ["theta"] * 2 + ["omega (SD)"] * 3 + ["correlation", "sigma (SD)"]
    assert table.loc["V"].tolist() == ["theta", 32.0, 0.0, 100.0, True]
    assert table.loc["corr_CL_V", ["lower", "upper"]].tolist() == [-1.0, 1.0]
    assert table["value"].to_numpy() == pytest.approx([2.8, 32, 0.3, 0.6, 0.2, 0.5, 0.7])


# ------------------------------------------------------------------------ construction


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"theta": (Parameter("additive", 1.0),)},
            "Two population parameters are called 'additive'; rename one of them.",
        ),
        (
            {"theta": (Parameter("omega_ka", 1.0),)},
            "Two population parameters are called 'omega_ka'; rename one of them.",
        ),
        ({"theta": (Parameter("CL", math.nan),)}, "'CL' is nan; give a finite number."),
        ({"theta": (Parameter("CL", 0.0, 0.0),)}, "'CL' starts at 0, not above its lower bound 0; move one of them."),
        (
            {"theta": (Parameter("CL", 2.0, 3.0, 1.0),)},
            "'CL' has lower bound 3 and upper bound 1; the lower must be smaller.",
        ),
        (
            {"omega": ((0.09, 0.0, 0.06), (0.0, 0.36, 0.0), (0.06, 0.0, 0.04))},
            "The initial Omega of eta_CL, eta_V is not positive definite; lower the correlations.",
        ),
        (
            {"omega": ((math.nan, 0.0, 0.0), (0.0, 0.36, 0.0), (0.0, 0.0, 0.04))},
            "The initial Omega of eta_CL, eta_V is not positive definite; lower the correlations.",
        ),
    ],
)
def test_a_space_that_contradicts_itself_is_refused(change, sentence):
    parts = {f: getattr(space_of_three(), f) for f in ("theta", "sigma", "eta", "omega", "blocks", "omega_fixed")}
    with pytest.raises(ModelError) as error:
        ParameterSpace(**(parts | change))
    assert str(error.value) == sentence


def test_values_are_copied_and_read_only():
    theta = np.array([1.0])
    values = Values(theta, np.zeros((0, 0)), np.zeros(0))
    theta[0] = 2.0
    assert values.theta[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        values.theta[0] = 3.0
    assert values == Values(np.array([1.0]), np.zeros((0, 0)), np.zeros(0))
    assert values != Values(np.array([2.0]), np.zeros((0, 0)), np.zeros(0))
