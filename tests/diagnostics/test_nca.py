"""Non-compartmental analysis against WinNonlin's printed values and against curves whose areas are known exactly.

WinNonlin 6.3/7.0 on R's Theoph (dose 320 mg for all, extravascular) and Indometh (25 mg, bolus), as printed in
"Validation of Noncompartmental Analysis Performed by NonCompart R package" (Han 2018,
github.com/asancpt/NonCompart-tests, validation.md); PKNCA's vignette prints the same for subject 1.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.diagnostics import nca, nca_summary

THEOPH_POINTS = [3, 4, 3, 3, 4, 7, 4, 6, 3, 3, 3, 3]
THEOPH_LAMBDA = [
    0.0484570, 0.1040864, 0.1024443, 0.0992870, 0.0866189, 0.0877957,
    0.0883365, 0.0814505, 0.0824586, 0.0749598, 0.0954586, 0.1102595,
]  # fmt: skip
THEOPH_LINEAR = {
    "AUClast": [
        148.92305, 91.5268, 99.2865, 106.7963, 121.2944, 73.77555,
        90.7534, 88.55995, 86.32615, 138.3681, 80.0936, 119.9775,
    ],
    "AUCinf": [
        216.6119330, 100.1734591, 109.5359707, 118.3788814, 139.4197778, 84.2544183,
        103.7718018, 103.9066868, 99.9087179, 170.6520606, 89.1027449, 130.5888316,
    ],
    "CL/F": [
        1.4772963, 3.1944589, 2.9214147, 2.7031849, 2.2952267, 3.7980204,
        3.0836894, 3.0796863, 3.2029237, 1.8751605, 3.5913596, 2.4504393,
    ],
    "Vz/F": [
        30.4867482, 30.6904416, 28.5170999, 27.2259641, 26.4979946, 43.2597345,
        34.9084408, 37.8105081, 38.8427934, 25.0155401, 37.6221852, 22.2242936,
    ],
    "MRT": [
        20.8000305, 9.9804109, 10.5076420, 11.0091630, 11.9618725, 11.6127855,
        11.9984272, 12.4930916, 12.0286954, 14.4972959, 10.4212274, 10.1875787,
    ],
    "extrapolated": [
        31.2489169, 8.6316867, 9.3571734, 9.7843309, 13.0005786, 12.4371737,
        12.5452209, 14.7697297, 13.5949777, 18.9180022, 10.1109623, 8.1257573,
    ],
}  # fmt: skip
THEOPH_LOG = {
    "AUCinf": [
        214.9236316, 97.3779346, 106.1276685, 114.2162046, 136.3047316, 82.1758833,
        100.9876292, 102.1533003, 97.5200039, 167.8600307, 86.9026173, 125.8315397,
    ],
    "CL/F": [
        1.4889010, 3.2861654, 3.0152363, 2.8017040, 2.3476808, 3.8940865,
        3.1687049, 3.1325469, 3.2813780, 1.9063502, 3.6822827, 2.5430826,
    ],
}  # fmt: skip
INDOMETH = {
    "C0": [2.3936170, 2.5281595, 4.9653691, 2.4622302, 4.0408654, 3.7056250],
    "lambda_z": [0.1583205, 0.3022800, 0.4218926, 0.4554455, 0.2527478, 0.3535205],
    "points": [3, 9, 10, 11, 8, 9],
    "adj_R2": [0.9941335, 0.9401933, 0.8603043, 0.8586943, 0.8544516, 0.8902329],
    "half_life": [4.3781270, 2.2930632, 1.6429468, 1.5219104, 2.7424461, 1.9606986],
    "AUClast": [2.0098984, 3.2028878, 3.4743971, 2.7483832, 2.3983736, 3.2908266],
    "AUCinf": [2.3257135, 3.4675431, 3.6640188, 2.9020789, 2.6357645, 3.5454087],
    "CL/F": [10.7493892, 7.2097158, 6.8231092, 8.6145142, 9.4849143, 7.0513732],
    "Vz/F": [67.8963898, 23.8511160, 16.1726192, 18.9144805, 37.5271908, 19.9461495],
}
INDOMETH_AUMC = [7.8261005, 9.4059410, 7.0217278, 5.9719996, 6.5856658, 8.3472113]
PRINTED = 1e-7
"""WinNonlin's values are printed with seven decimals, larger ones with ten digits."""


def profile(times, values, *, amount=100.0, **columns) -> pd.DataFrame:
    """Return records of one subject: a dose at 0 and its observations."""
    n = len(times)
    rows = {
        "ID": [1] * (n + 1),
        "TIME": [0.0, *times],
        "AMT": [amount, *[0.0] * n],
        "EVID": [1, *[0] * n],
        "DV": [np.nan, *values],
    }
    return pd.DataFrame(rows | columns)


@pytest.fixture(scope="module")
def theoph(theophylline) -> nw.Data:
    records = theophylline.records.copy()
    records.loc[records["EVID"] == 1, "AMT"] = 320.0
    return nw.Data.from_frame(records, covariates=["WT"])


def test_theophylline_by_linear_trapezoids_is_that_of_winnonlin(theoph):
    table = nca(theoph, rule="linear")
    assert table["points"].tolist() == THEOPH_POINTS
    np.testing.assert_allclose(table["lambda_z"], THEOPH_LAMBDA, rtol=0, atol=PRINTED)
    for column, values in THEOPH_LINEAR.items():
        np.testing.assert_allclose(table[column], values, rtol=0, atol=PRINTED, err_msg=column)


def test_theophylline_by_linear_up_log_down_is_that_of_winnonlin(theoph):
    table = nca(theoph)
    for column, values in THEOPH_LOG.items():
        np.testing.assert_allclose(table[column], values, rtol=0, atol=PRINTED, err_msg=column)
    assert table["tmax"].tolist() == [1.12, 1.92, 1.02, 1.07, 1.0, 1.15, 3.48, 2.02, 0.63, 3.55, 0.98, 3.52]
    assert table["rule"][0] == "linear-up log-down; extravascular, C0 measured"
    assert table["note"][0] == "31 % of AUCinf is extrapolated"
    assert not table["note"][1]


def test_indomethacin_after_a_bolus_is_that_of_winnonlin():
    table = nca(nw.datasets.load("indomethacin"))
    assert set(table["rule"]) == {"linear-up log-down; bolus, C0 back-extrapolated"}
    for column, values in INDOMETH.items():
        np.testing.assert_allclose(table[column], values, rtol=0, atol=PRINTED, err_msg=column)
    np.testing.assert_allclose(table["MRT"] * table["AUCinf"], INDOMETH_AUMC, rtol=3e-8)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(0.02, 2.0),
    volume=st.floats(1.0, 100.0),
    times=st.lists(st.floats(0.1, 20.0), min_size=4, max_size=12, unique_by=lambda t: round(t, 2)),
)
def test_an_exponential_decay_is_integrated_exactly(rate, volume, times):
    # C = D/V·exp(−kt): log trapezoids, back-extrapolation and tail are exact whatever the sampling.
    times = sorted(round(t, 2) for t in times)
    data = nw.Data.from_frame(profile(times, [100.0 / volume * np.exp(-rate * t) for t in times]))
    row = nca(data, route="bolus").iloc[0]
    # Errors of the exponential and the logarithm, magnified by the shortest spacing of the times.
    rtol = 1e-12 / min(1.0, rate * min(np.diff(times)))
    expected = {
        "C0": 100.0 / volume,
        "half_life": np.log(2.0) / rate,
        "AUCinf": 100.0 / (volume * rate),
        "CL/F": volume * rate,
        "Vz/F": volume,
        "MRT": 1.0 / rate,
    }
    for column, value in expected.items():
        assert row[column] == pytest.approx(value, rel=rtol), column


def test_a_triangle_is_integrated_exactly_by_linear_trapezoids():
    data = nw.Data.from_frame(profile([0.0, 2.0, 4.0, 6.0], [0.0, 10.0, 5.0, 0.0]))
    row = nca(data, rule="linear").iloc[0]
    assert row["AUClast"] == 10.0 + 15.0  # to the last measurable point at 4
    assert (row["Cmax"], row["tmax"], row["Clast"], row["tlast"]) == (10.0, 2.0, 5.0, 4.0)


def test_what_cannot_be_found_is_refused_with_a_reason():
    few = nca(nw.Data.from_frame(profile([1.0, 2.0, 3.0], [1.0, 5.0, 4.0]))).iloc[0]
    assert np.isnan(few["half_life"])
    assert few["points"] == 0
    assert few["note"] == "no half-life (points after Cmax: 1, needed: 3)"
    rising = nca(nw.Data.from_frame(profile([1, 2, 3, 4, 5], [9.0, 1.0, 2.0, 3.0, 4.0])), route="extravascular").iloc[0]
    assert rising["note"].startswith("no half-life (no three points fall after Cmax)")
    nothing = nca(nw.Data.from_frame(profile([1.0, 2.0], [0.0, 0.0]))).iloc[0]
    assert nothing["note"] == "nothing measurable"
    tree = nca(nw.datasets.load("orange")).iloc[0]
    assert "no dose: no CL/F" in tree["note"]
    assert np.isnan(tree["CL/F"])


def test_each_dose_interval_is_a_row_and_carry_over_is_said():
    # Two doses of 100 to V = 10, k = 0.1, 24 h apart, by superposition.
    one = lambda t: np.where(t >= 0, 10.0 * np.exp(-0.1 * t), 0.0)  # noqa: E731
    times = np.array([1.0, 4.0, 8.0, 16.0, 25.0, 28.0, 32.0, 40.0])
    frame = profile(times, one(times) + one(times - 24.0))
    second = frame.iloc[[0]].assign(TIME=24.0)
    frame = pd.concat([frame, second]).sort_values(["TIME", "EVID"], ascending=[True, False], kind="stable")
    table = nca(nw.Data.from_frame(frame.reset_index(drop=True)), route="bolus")
    assert table["dose"].tolist() == [1, 2]
    assert table["start"].tolist() == [0.0, 24.0]
    np.testing.assert_allclose(table["half_life"], np.log(2.0) / 0.1, rtol=1e-12)
    assert table["CL/F"][0] == pytest.approx(1.0, rel=1e-12)
    assert np.isnan(table["CL/F"][1])
    assert table["note"][1] == "earlier doses are not washed out: no AUCinf, CL/F, Vz/F, MRT"


def test_units_follow_the_columns(theophylline):
    units = nca(theophylline).attrs["units"]
    assert (units["AUCinf"], units["CL/F"], units["Vz/F"]) == ("mg/L·h", "L/h", "L")
    per_kg = nca(nw.datasets.load("theophylline_per_kg")).attrs["units"]
    assert (per_kg["CL/F"], per_kg["Vz/F"]) == ("L/kg/h", "L/kg")


def test_the_summary_is_that_of_its_column(theoph):
    table = nca(theoph)
    summary = nca_summary(table)
    assert summary.loc["half_life", "geometric_mean"] == pytest.approx(
        np.prod(table["half_life"].to_numpy()) ** (1 / 12), rel=1e-12
    )
    # PKNCA's vignette: AUCinf 115 [28.4], half-life 8.18 [2.12] (arithmetic), Cmax 8.65 [17.0].
    assert round(summary.loc["AUCinf", "geometric_mean"]) == 115
    assert round(summary.loc["AUCinf", "geometric_CV"], 1) == 28.4
    assert round(summary.loc["Cmax", "geometric_CV"], 1) == 17.0
    assert round(table["half_life"].mean(), 2) == 8.18


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rule": "log"}, "rule='log' is not known; there are 'linear-up log-down', 'linear'."),
        ({"route": "oral"}, "route='oral' is not known; there are 'auto', 'extravascular', 'bolus', 'infusion'."),
    ],
)
def test_an_unknown_choice_is_refused(theoph, options, sentence):
    with pytest.raises(nw.DataError) as error:
        nca(theoph, **options)
    assert str(error.value) == sentence


def test_additional_doses_cut_the_profile_like_records_of_their_own():
    times = [1.0, 4.0, 8.0, 16.0, 25.0, 28.0, 32.0, 40.0]
    values = [9.0, 7.0, 5.0, 2.0, 9.5, 7.5, 5.5, 2.5]
    frame = profile(times, values, ADDL=[1, *[0] * 8], II=[24.0, *[0.0] * 8])
    written = profile(times, values)
    written = pd.concat([written, written.iloc[[0]].assign(TIME=24.0)]).sort_values(["TIME", "EVID"], kind="stable")
    pd.testing.assert_frame_equal(
        nca(nw.Data.from_frame(frame)), nca(nw.Data.from_frame(written.reset_index(drop=True))), check_dtype=False
    )


def test_clearance_at_steady_state_is_the_dose_over_the_area_of_an_interval():
    # C = D/V·exp(−kt)/(1 − exp(−kτ)) with D = 100, V = 10, k = 0.1, τ = 12: the area to τ is D/(kV).
    times = np.array([0.5, 2.0, 4.0, 8.0, 11.0])
    values = 10.0 * np.exp(-0.1 * times) / (1.0 - np.exp(-1.2))
    data = nw.Data.from_frame(profile(times, values, SS=[1, *[0] * 5], II=[12.0, *[0.0] * 5]))
    row = nca(data, route="bolus").iloc[0]
    assert row["CL/F"] == pytest.approx(1.0, rel=1e-12)
    assert row["Vz/F"] == pytest.approx(10.0, rel=1e-12)
    assert np.isnan(row["AUCinf"])
    assert row["note"] == "steady state: CL/F from the dosing interval, no AUCinf, MRT"


def test_an_infusion_shortens_the_mean_residence_time_by_half_its_duration():
    # WinNonlin: MRTINF of an infusion is AUMCINF/AUCINF − TI/2.
    times, values = [0.5, 1.0, 2.0, 4.0, 8.0], [2.0, 4.0, 3.0, 1.5, 0.4]
    timed = nca(nw.Data.from_frame(profile(times, values, RATE=[100.0, *[0.0] * 5]))).iloc[0]
    plain = nca(nw.Data.from_frame(profile(times, values)), route="extravascular").iloc[0]
    assert timed["rule"].startswith("linear-up log-down; infusion")
    assert timed["AUCinf"] == plain["AUCinf"]
    assert timed["MRT"] == pytest.approx(plain["MRT"] - 0.5, rel=1e-14)


def test_censored_values_are_zero_before_the_first_measurable_one_and_left_out_after():
    times, values = [0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0], [1.0, 1.0, 8.0, 4.0, 2.0, 1.0, 1.0]
    data = nw.Data.from_frame(profile(times, values, CENS=[0, 1, 1, 0, 0, 0, 0, 1]))
    by_hand = nw.Data.from_frame(profile(times[:-1], [0.0, 0.0, *values[2:-1]]))
    one, other = nca(data, route="extravascular").iloc[0], nca(by_hand, route="extravascular").iloc[0]
    assert (one["BLQ"], other["BLQ"]) == (3, 0)
    assert (one["AUClast"], one["half_life"], one["tlast"]) == (other["AUClast"], other["half_life"], 8.0)


def test_a_reset_begins_a_profile_of_its_own():
    times, values = [1.0, 2.0, 3.0, 4.0], [8.0, 4.0, 2.0, 1.0]
    first, second = profile(times, values), profile(times, [2.0 * v for v in values])
    second.loc[0, "EVID"] = 4
    table = nca(nw.Data.from_frame(pd.concat([first, second], ignore_index=True)), route="bolus")
    assert table["Cmax"].tolist() == [8.0, 16.0]
    np.testing.assert_allclose(table["AUClast"], [table["AUClast"][0], 2 * table["AUClast"][0]], rtol=1e-14)
    assert np.isfinite(table["CL/F"]).all()
    assert table["dose"].tolist() == [1, 2]
