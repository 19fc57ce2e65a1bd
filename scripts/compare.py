"""Compare runs of any algorithms by their files: learning curves, losses, speeds, and a table.

python scripts/compare.py RUN_DIR [RUN_DIR ...] [--out DIR]

Runs that differ in their seeds only are put together. Unfinished runs are shown up to where they are. With --out, DIR
gets comparison.png, comparison.md, comparison.csv (the table) and curves.csv (the learning curves).
"""

import argparse
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from errors import UserError
from evaluation.comparison import comparison_table
from evaluation.comparison_figure import draw_comparison, return_bands
from evaluation.histories import History, read_histories
from evaluation.published import read_published
from evaluation.runs import group_runs
from evaluation.table import Row, comma_separated, markdown
from files import write_text_atomically
from run.arguments import OneLineParser
from run.config import register_resolvers
from run.door import explain


def main() -> int:
    register_resolvers()
    arguments = parse_arguments()
    return explain(lambda: compare(arguments), "Stopped.")


def compare(arguments: argparse.Namespace) -> int:
    histories = read_histories(arguments.runs)
    if not any(history.metrics or history.records for history in histories):
        raise UserError(f"None of these runs has metrics yet: {arguments.runs[0]} has no line in its metrics.jsonl.")
    rows = comparison_table(histories, read_published())
    table = markdown(rows)
    print(table)
    if arguments.out is not None:
        write_text_atomically(arguments.out / "comparison.md", f"{table}\n")
        write_text_atomically(arguments.out / "comparison.csv", comma_separated(rows))
        if curves := curve_rows(histories):
            write_text_atomically(arguments.out / "curves.csv", comma_separated(curves))
        draw_comparison(histories, arguments.out / "comparison.png")
        print(f"Written to {arguments.out}")
    return 0


def curve_rows(histories: list[History]) -> list[Row]:
    """The points of all learning curves: mean return over seeds, and its interval."""
    return [
        {
            "game": group.game,
            "agent": group.label,
            "against": name,
            "at": float(band.x[place]),
            "return": float(band.mean[place]),
            "95% interval": None if band.low is None else (float(band.low[place]), float(band.high[place])),
        }
        for group in group_runs([history.run for history in histories])
        for name, band in return_bands(histories, group).items()
        for place in range(len(band.x))
    ]


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(
        prog="scripts/compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="run folders, finished or not")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the figure and the tables")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
