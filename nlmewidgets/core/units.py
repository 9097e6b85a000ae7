"""Units as labels: just enough arithmetic for axes and tables, never a conversion of numbers."""

from __future__ import annotations

__all__ = ["concentration", "quotient"]

_PER_LITRE = {
    "g/mL": "kg/L", "mg/mL": "g/L", "µg/mL": "mg/L", "μg/mL": "mg/L", "ug/mL": "mg/L", "mcg/mL": "mg/L",
    "ng/mL": "µg/L", "pg/mL": "ng/L",
}  # fmt: skip
"""The same concentration per litre: no number changes."""


def concentration(unit: str) -> str:
    """Return a concentration per litre where that is the same number, else the unit itself."""
    return _PER_LITRE.get(unit.replace("ml", "mL"), unit)


def quotient(a: str, b: str) -> str:
    """Return the unit a / b, with what is in both left out.

    >>> quotient("mg", "mg/L"), quotient("mg/kg", "mg/L"), quotient("mg", "µg/L")
    ('L', 'L/kg', 'mg/(µg/L)')
    """
    top, _, per = a.partition("/")
    other, _, under = b.partition("/")
    if top == other and under:
        return under + (f"/{per}" if per else "")
    return f"{a}/({b})" if b else a
