"""Human normalised scores on Atari 100k: the published ones, and the scores of your own finished runs.

python scripts/scores.py [RUN_DIR ...] [--games] [--figure FILE.png]
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from errors import UserError
from evaluation.histories import read_histories
from evaluation.published import Scores, human_normalised, read_published
from evaluation.statistics import interquartile_mean, interquartile_mean_interval
from evaluation.table import Row, in_words, markdown
from run.arguments import OneLineParser
from run.config import register_resolvers
from run.door import explain

OWN = "This project"
Normalised = dict[str, dict[str, list[float]]]
"""Human normalised scores, by method, then by game: one for each run."""


def main() -> int:
    register_resolvers()
    arguments = parse_arguments()
    return explain(lambda: show(arguments), "Stopped.")


def show(arguments: argparse.Namespace) -> int:
    scores = read_published()
    if arguments.runs:
        scores[OWN] = read_runs(arguments.runs, scores)
    normalised = {
        method: {game: [human_normalised(game, each, scores) for each in runs] for game, runs in games.items()}
        for method, games in scores.items()
        if method not in ("Random", "Human")
    }
    print(markdown(aggregate_rows(normalised)))
    if arguments.games:
        print(f"\n{markdown(game_rows(scores))}")
    if arguments.figure is not None:
        draw(normalised, arguments.figure)
    return 0


def read_runs(folders: Sequence[Path], published: Scores) -> dict[str, list[float]]:
    """The mean returns of the final test episodes of finished runs, by game."""
    found: dict[str, list[float]] = defaultdict(list)
    for history in read_histories(folders):
        if history.final_return is None:
            raise UserError(f"The run in {history.run.path} is not finished: it has played no final test episodes.")
        if human_normalised(history.run.game, 0.0, published) is None:
            raise UserError(f"There is no human score for {history.run.game}: it is not an Atari 100k game.")
        found[history.run.game].append(history.final_return)
    return found


def aggregate_rows(normalised: Normalised) -> list[Row]:
    """A row for each method: mean and median over games of each game's mean over runs, and the interquartile mean."""
    rows: list[Row] = []
    for method in by_score(normalised):
        games = normalised[method]
        means = np.array([np.mean(runs) for runs in games.values()])
        bounds = interquartile_mean_interval(games)
        rows.append(
            {
                "method": method,
                "games": len(games),
                "mean": float(means.mean()),
                "median": float(np.median(means)),
                "IQM": interquartile_mean(games),
                "95% interval": "one run a game" if bounds is None else in_words(bounds),
                "above human": int((means > 1).sum()),
            }
        )
    return rows


def game_rows(scores: Scores) -> list[Row]:
    """A row for each game, with the mean score of each method."""
    shown = {method: {game: f"{np.mean(runs):.1f}" for game, runs in games.items()} for method, games in scores.items()}
    return [
        {"game": game, **{method: games.get(game, "") for method, games in shown.items()}}
        for game in sorted(scores["Human"])
    ]


def draw(normalised: Normalised, path: Path) -> None:
    """Bars of the interquartile means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    methods = by_score(normalised)
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(methods) + 1), layout="constrained")
    for place, method in enumerate(methods):
        bounds = interquartile_mean_interval(normalised[method])
        colour = "tab:orange" if method == OWN else "tab:blue"
        axis.barh(place, interquartile_mean(normalised[method]), color=colour, alpha=0.8)
        if bounds is not None:
            axis.plot(bounds, (place, place), color="black", linewidth=2)
    axis.set(yticks=range(len(methods)), yticklabels=methods, xlabel="interquartile mean of human normalised scores")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def by_score(normalised: Normalised) -> list[str]:
    """The methods, from the lowest interquartile mean to the highest."""
    return sorted(normalised, key=lambda method: interquartile_mean(normalised[method]))


def parse_arguments() -> argparse.Namespace:
    parser = OneLineParser(
        prog="scripts/scores.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR", help="folders of finished runs")
    parser.add_argument("--games", action="store_true", help="also print the mean score of every game")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the interquartile means")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
