"""Measurements: published numbers, each with the paper they stand in."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from nlmewidgets.datasets.card import Dataset

__all__ = ["ELSEWHERE", "PUBLISHED"]


def _theophylline(per_kg: bool) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def prepare(table: pd.DataFrame) -> pd.DataFrame:
        first = table.drop_duplicates("ID")
        amount = first["DOSE"] if per_kg else (first["DOSE"] * first["WT"]).round(6)
        doses = first.assign(TIME=0.0, AMT=amount, EVID=1, DV=float("nan"))
        observations = table.assign(AMT=0.0, EVID=0)
        both = pd.concat([doses, observations]).sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False])
        return both[["ID", "TIME", "EVID", "AMT", "DV", "WT", "DOSE"]].reset_index(drop=True)

    return prepare


_THEOPHYLLINE = (
    "Boeckmann, Sheiner & Beal (1994), NONMEM Users Guide Part V; Davidian & Giltinan (1995), Nonlinear Models for "
    "Repeated Measurement Data, §5.5. As distributed with R (datasets::Theoph)."
)
_NLME = "Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS. As distributed with R"
_EVENTS = {"ID": "subject", "TIME": "time since the first record", "AMT": "amount given (0: observation)"}

PUBLISHED: dict[str, Dataset] = {
    "theophylline": Dataset(
        "theophylline.csv",
        "Serum theophylline after one oral dose, 12 subjects × 11 times; AMT is the total dose in mg.",
        _THEOPHYLLINE,
        {"TIME": "h", "DV": "mg/L", "AMT": "mg", "WT": "kg", "DOSE": "mg/kg"},
        {
            "ID": "subject",
            "TIME": "time after the dose",
            "AMT": "total dose",
            "DV": "serum concentration",
            "WT": "body weight",
            "DOSE": "dose per body weight",
        },
        prepare=_theophylline(per_kg=False),
    ),
    "theophylline_per_kg": Dataset(
        "theophylline.csv",
        "The same study with AMT in mg per kg of body weight: V and CL are then per kg.",
        _THEOPHYLLINE,
        {"TIME": "h", "DV": "mg/L", "AMT": "mg/kg", "WT": "kg", "DOSE": "mg/kg"},
        {
            "ID": "subject",
            "TIME": "time after the dose",
            "AMT": "dose per body weight",
            "DV": "serum concentration",
            "WT": "body weight",
            "DOSE": "dose per body weight",
        },
        prepare=_theophylline(per_kg=True),
    ),
    "phenobarbital": Dataset(
        "phenobarbital.csv",
        "Phenobarbital in 59 neonates, repeated intravenous doses against seizures; few samples each, routine care.",
        "Grasela & Donn (1985), Dev Pharmacol Ther 8:374-383. As distributed with R (nlme::Phenobarb), where the dose "
        "is called µg/kg; the numbers fit as mg.",
        {"TIME": "h", "DV": "mg/L", "AMT": "mg", "WT": "kg", "APGAR": "points"},
        {
            **_EVENTS,
            "DV": "serum concentration",
            "WT": "birth weight",
            "APGAR": "Apgar score five minutes after birth, 0 to 10",
        },
    ),
    "indomethacin": Dataset(
        "indomethacin.csv",
        "Plasma indomethacin after an intravenous bolus of 25 mg, 6 subjects × 11 times: a curve of two exponentials.",
        "Kwan, Breault, Umbenhauer, McMahon & Duggan (1976), J Pharmacokinet Biopharm 4:255-280. As distributed with R "
        "(datasets::Indometh).",
        {"TIME": "h", "DV": "mg/L", "AMT": "mg"},
        {**_EVENTS, "TIME": "time after the dose", "DV": "plasma concentration"},
    ),
    "quinidine": Dataset(
        "quinidine.csv",
        "Quinidine in 136 patients with arrhythmia, oral doses in routine care, many covariates that change with time; "
        "doses at steady state have SS and II.",
        "Verme, Ludden, Clementi & Harris (1992), Clin Pharmacokinet 22:468-480. As distributed with R "
        "(nlme::Quinidine): a dose with an interval is read as a steady-state dose.",
        {"TIME": "h", "II": "h", "DV": "mg/L", "AMT": "mg", "AGE": "years", "HT": "in", "WT": "kg", "AAG": "g/L"},
        {
            **_EVENTS,
            "AMT": "dose of quinidine base",
            "SS": "1: the dose has been given at its interval for long",
            "II": "interval of a steady-state dose",
            "DV": "serum concentration",
            "AGE": "age",
            "HT": "height",
            "WT": "body weight",
            "RACE": "race",
            "SMOKE": "smoker at the time",
            "ETHANOL": "alcohol abuse: none, current, former",
            "HEART": "congestive heart failure: No/Mild, Moderate, Severe",
            "CREATININE": "creatinine clearance, below or from 50 mg/min",
            "AAG": "α1-acid glycoprotein (R's page says mg/100 mL; the numbers fit as g/L)",
        },
    ),
    "remifentanil": Dataset(
        "remifentanil.csv",
        "Remifentanil during and after one intravenous infusion, 65 subjects aged 20 to 85, 1,992 concentrations.",
        "Minto et al. (1997), Anesthesiology 86:10-23. As distributed with R (nlme::Remifentanil): rows of one rate "
        "are written as one infusion.",
        {
            "TIME": "min", "DV": "µg/L", "AMT": "µg", "RATE": "µg/min", "AGE": "years", "HT": "cm", "WT": "kg",
            "LBM": "kg",
        },
        {
            **_EVENTS,
            "RATE": "rate of the infusion",
            "DV": "blood concentration",
            "AGE": "age",
            "SEX": "sex",
            "HT": "height",
            "WT": "body weight",
            "LBM": "lean body mass",
        },
    ),
    "orange": Dataset(
        "orange.csv",
        "Trunk circumference of 5 orange trees at 7 ages.",
        "Draper & Smith (1981), Applied Regression Analysis, p. 524; Pinheiro & Bates (2000). As distributed with R "
        "(datasets::Orange).",
        {"TIME": "days", "DV": "mm"},
        {"ID": "tree", "TIME": "age since 1968-12-31", "DV": "circumference of the trunk"},
    ),
    "soybean": Dataset(
        "soybean.csv",
        "Growth of two genotypes of soybean in three years, 48 plots, sampled 8 to 10 times.",
        f"Davidian & Giltinan (1995), §1.1.3; {_NLME} (nlme::Soybean).",
        {"TIME": "days", "DV": "g"},
        {
            "ID": "plot",
            "TIME": "days since planting",
            "DV": "average leaf weight per plant",
            "VARIETY": "genotype: F Forrest (commercial), P Plant Introduction 416937 (experimental)",
            "YEAR": "year of planting",
        },
    ),
}  # fmt: skip
"""Published measurements by their name."""

ELSEWHERE: dict[str, str] = {
    "warfarin": (
        "the files in circulation have a licence (GPL) that this package cannot pass on. Warfarin concentrations and "
        "prothrombin activity of 32 volunteers (O'Reilly, Aggeler & Leong 1963, J Clin Invest 42:1542-1551; O'Reilly & "
        "Aggeler 1968, Circulation 38:169-177) are in R's nlmixr2data::warfarin and, the concentrations, in the Python "
        "package openpkpd; save them as CSV and read them with Data.read_csv(path, covariates=['wt', 'age', 'sex']). "
        "A simulated study of this kind is 'pkpd_turnover'"
    )
}
"""Well-known data sets that are not shipped: why, and where they are."""
