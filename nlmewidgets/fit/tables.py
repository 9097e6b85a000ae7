"""The tables of a fit for other programs: CSV with every digit, LaTeX for a manuscript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nlmewidgets.core.errors import NlmeError

if TYPE_CHECKING:
    from nlmewidgets.fit.result import Fit

__all__ = ["estimates_csv", "estimates_latex", "save_tables", "written"]

_HEADS = {
    "initial": "Initial",
    "estimate": "Estimate",
    "se": "SE",
    "rse_%": r"RSE (\%)",
    "shrinkage_%": r"Shrinkage (\%)",
}
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "−": "$-$",
}


def estimates_csv(fit: Fit) -> str:
    """Return parameter, kind, initial, estimate, se, rse_%, shrinkage_%, fixed as CSV with every digit."""
    return str(fit.summary().rename_axis("parameter").to_csv(lineterminator="\n"))


def estimates_latex(fit: Fit) -> str:
    r"""Return the estimates as a LaTeX ``table`` for the package booktabs.

    Numbers have four significant digits, per cent one decimal; what was fixed says so.
    """
    table = fit.summary()
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{escaped(_caption(fit))}}}",
        "\\begin{tabular}{l" + "r" * len(_HEADS) + "}",
        "\\toprule",
        " & ".join(["Parameter", *_HEADS.values()]) + r" \\",
        "\\midrule",
    ]
    for name, row in table.iterrows():
        cells = [_number(row[c], c) for c in _HEADS]
        if row["fixed"]:
            cells[2] = "fixed"
        lines.append(" & ".join([escaped(str(name)), *cells]) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _caption(fit: Fit) -> str:
    return (
        f"{fit.start.name or 'Model'} by {fit.method.upper()}: {fit.n_subjects} subjects, {fit.n_obs} observations, "
        f"OFV {fit.ofv:.3f} ({fit.ofv_by}). Omegas and sigmas are standard deviations."
    )


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "--"
    text = f"{value:.1f}" if column.endswith("%") else f"{value:.4g}"
    if "e" in text:
        digits, power = text.split("e")
        return f"${digits} \\cdot 10^{{{int(power)}}}$"
    return f"${text}$" if text.startswith("-") else text


def escaped(text: str) -> str:
    """Return text in which LaTeX's special characters are themselves."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def written(text: str, path: str | Path | None) -> str:
    """Return the text, and write it to a file if one is given.

    Raises
    ------
    NlmeError
        If the file cannot be written.
    """
    if path is not None:
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise NlmeError(
                f"'{path}' cannot be written ({error.strerror}); give a file in an existing folder."
            ) from None
    return text


def save_tables(fit: Fit, folder: str | Path) -> list[Path]:
    """Write the tables of a fit into a folder, which is made if need be, and return the files.

    ``estimates.csv`` and ``estimates.tex``, ``covariance.csv``, ``omega.csv``, ``eta.csv`` (EBEs), ``individual.csv``
    (individual parameters), ``residuals.csv`` (one row per observation) and ``history.csv``.

    Raises
    ------
    NlmeError
        If the folder cannot be made or written to.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NlmeError(f"'{target}' cannot be made ({error.strerror}); give another folder.") from None
    texts = {
        "estimates.csv": estimates_csv(fit),
        "estimates.tex": estimates_latex(fit),
        "covariance.csv": _csv(fit.cov),
        "omega.csv": _csv(fit.omega),
        "eta.csv": _csv(fit.eta),
        "individual.csv": _csv(fit.individual),
        "residuals.csv": fit.table().to_csv(index=False, lineterminator="\n"),
        "history.csv": fit.history.to_csv(index=False, lineterminator="\n"),
    }
    for name, text in texts.items():
        written(text, target / name)
    return [target / name for name in texts]


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(lineterminator="\n"))
