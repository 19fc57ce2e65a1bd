"""Human normalised scores on Atari 100k: the published ones, and the scores of your own finished runs.

python scripts/scores.py [RUN_DIR ...] [--games] [--figure FILE.png]
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import trim_mean

PROJECT = Path(__file__).resolve().parents[1]
PUBLISHED = PROJECT / "results" / "atari_100k_published.csv"
RESAMPLES, CONFIDENCE = 2000, 0.95

Scores = dict[str, dict[str, list[float]]]
"""By method, then by game: one score for each run."""


def main() -> None:
    arguments = parse_arguments()
    scores = read_published(PUBLISHED)
    for folder in arguments.runs:
        game, score = read_run(folder)
        scores.setdefault("This project", defaultdict(list))[game].append(score)
    normalised = {name: normalise(games, scores) for name, games in scores.items() if name not in ("Random", "Human")}
    print(aggregate_table(normalised))
    if arguments.games:
        print(f"\n{game_table(scores)}")
    if arguments.figure is not None:
        draw(normalised, arguments.figure)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR", help="folders of finished runs")
    parser.add_argument("--games", action="store_true", help="also print the mean score of every game")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the interquartile means")
    return parser.parse_args()


def read_published(path: Path) -> Scores:
    scores: Scores = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["method"], defaultdict(list))[row["game"]].append(float(row["score"]))
    return scores


def read_run(folder: Path) -> tuple[str, float]:
    """The game of a finished run, and the mean return of its final test episodes."""
    try:
        config = OmegaConf.load(folder / "config" / "trainer.yaml")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        score = next(line["collection/final/return_mean"] for line in lines if "collection/final/return_mean" in line)
    except FileNotFoundError as error:
        sys.exit(f"error: {folder} is not a run folder: {error.filename} is missing.")
    except StopIteration:
        sys.exit(f"error: the run in {folder} is not finished: it has played no final test episodes.")
    game = config.env.train.id.removeprefix("ALE/").removesuffix("NoFrameskip-v4").removesuffix("-v5")
    return game, score


def normalise(games: dict[str, list[float]], scores: Scores) -> dict[str, np.ndarray]:
    """(score - random) / (human - random), for each run of each game (Mnih et al. 2015)."""
    unknown = games.keys() - scores["Human"].keys()
    if unknown:
        sys.exit(f"error: there is no human score for {', '.join(sorted(unknown))}: it is not an Atari 100k game.")
    return {
        game: (np.array(runs) - scores["Random"][game][0]) / (scores["Human"][game][0] - scores["Random"][game][0])
        for game, runs in games.items()
    }


def aggregate(games: dict[str, np.ndarray]) -> tuple[float, float, float, int]:
    """Mean, median and interquartile mean of the normalised scores, and the number of games above human.

    The mean and the median are over games, of each game's mean over runs; the interquartile mean is over all runs
    (Agarwal et al. 2021).
    """
    means = np.array([runs.mean() for runs in games.values()])
    pooled = np.concatenate(list(games.values()))
    return means.mean(), float(np.median(means)), float(trim_mean(pooled, 0.25)), int((means > 1).sum())


def interval(games: dict[str, np.ndarray]) -> tuple[float, float] | None:
    """Bootstrap interval of the interquartile mean, by resampling the runs of each game; None with one run a game."""
    if all(len(runs) == 1 for runs in games.values()):
        return None
    rng = np.random.default_rng(0)
    resampled = np.concatenate(
        [rng.choice(runs, (RESAMPLES, len(runs)), replace=True) for runs in games.values()], axis=1
    )
    edge = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(trim_mean(resampled, 0.25, axis=1), (edge, 100 - edge))
    return float(low), float(high)


def aggregate_table(normalised: dict[str, dict[str, np.ndarray]]) -> str:
    lines = ["| method | games | mean | median | IQM | 95% interval | above human |", "|---|---|---|---|---|---|---|"]
    for method, games in sorted(normalised.items(), key=lambda item: aggregate(item[1])[2]):
        mean, median, iqm, above = aggregate(games)
        bounds = interval(games)
        words = "one run a game" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
        lines.append(f"| {method} | {len(games)} | {mean:.3f} | {median:.3f} | {iqm:.3f} | {words} | {above} |")
    return "\n".join(lines)


def game_table(scores: Scores) -> str:
    methods = list(scores)
    lines = [f"| game | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for game in sorted(scores["Human"]):
        cells = [f"{np.mean(scores[method][game]):.1f}" if game in scores[method] else "" for method in methods]
        lines.append(f"| {game} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(normalised: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    methods = sorted(normalised, key=lambda method: aggregate(normalised[method])[2])
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(methods) + 1), layout="constrained")
    for place, method in enumerate(methods):
        iqm, bounds = aggregate(normalised[method])[2], interval(normalised[method])
        axis.barh(place, iqm, color="tab:orange" if method == "This project" else "tab:blue", alpha=0.8)
        if bounds is not None:
            axis.plot(bounds, (place, place), color="black", linewidth=2)
    axis.set(yticks=range(len(methods)), yticklabels=methods, xlabel="interquartile mean of human normalised scores")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
