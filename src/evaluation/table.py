"""Tables as text."""

import csv
import io
from collections.abc import Sequence

Cell = str | float | int | tuple[float, float] | None
"""An interval is a pair of numbers; None is an empty cell."""
Row = dict[str, Cell]


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of rows with the same columns, padded so that it can be read as plain text.

    Numbers have at most three digits after the point. Columns that are empty in every row are left out.
    """
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [columns, *([in_words(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    lines = ["|".join(f" {cell:<{width}} " for cell, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "|".join("-" * (width + 2) for width in widths))
    return "\n".join(f"|{line}|" for line in lines)


def comma_separated(rows: Sequence[Row]) -> str:
    """The same rows as CSV, with all digits and columns. An interval has two columns: `<name> low`, `<name> high`."""
    intervals = {name for row in rows for name, cell in row.items() if isinstance(cell, tuple)}
    flat = [
        {
            column: value
            for name, cell in row.items()
            for column, value in (_two_columns(name, cell) if name in intervals else [(name, cell)])
        }
        for row in rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def in_words(cell: Cell) -> str:
    """The text of a cell."""
    match cell:
        case None:
            return ""
        case tuple():
            return f"{in_words(cell[0])} to {in_words(cell[1])}"
        case float():
            return f"{cell:.{3 if abs(cell) < 10 else 1}f}"
    return str(cell)


def _two_columns(name: str, cell: Cell) -> list[tuple[str, Cell]]:
    low, high = cell if isinstance(cell, tuple) else (None, None)
    return [(f"{name} low", low), (f"{name} high", high)]
