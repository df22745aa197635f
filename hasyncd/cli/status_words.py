"""How single values are written for people: words with signs, numbers with separators, a dash for what is not known."""

from __future__ import annotations

from typing import Final

from rich.table import Table
from rich.text import Text

GOOD, WARN, ALARM, QUIET = "bold bright_blue", "bold yellow", "bold red", "dim"
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_NUMBERS: Final = ("weight", "flows", "id", "ring", "share")


def number(value: object) -> str:
    """`1,048,576`; a dash for what is not known."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "–"


def quantity(value: float | None, unit: str = "") -> str:
    """Three digits, a prefix and the unit: `1.23 M`, `980 bit/s`, `9.86 Mbit/s`."""
    if value is None:
        return f"– {unit}".rstrip()
    for factor, prefix in _PREFIXES:
        if value >= 0.9995 * factor:
            scaled = value / factor
            return f"{scaled:.3g} {prefix}{unit}" if scaled < 999.5 else f"{scaled:,.0f} {prefix}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def judged(good: bool | None, told: str) -> Text:
    """A word with its sign; None is no judgement."""
    if good is None:
        return Text(told)
    return Text(f"{'✔' if good else '!'} {told}", style=GOOD if good else WARN)


def word(value: object) -> str:
    return "–" if value is None else str(value)


def plain_table(*columns: str) -> Table:
    """Columns without lines; those of numbers are set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in _NUMBERS else "left", style="bold" if column == "" else None
        )
    return table
