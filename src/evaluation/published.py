"""Published scores of Atari 100k, and human normalised scores."""

import csv
from collections import defaultdict
from pathlib import Path

from run.folder import PROJECT

PUBLISHED = PROJECT / "results" / "atari_100k_published.csv"

Scores = dict[str, dict[str, list[float]]]
"""By method, then by game: one score for each run."""


def read_published(path: Path = PUBLISHED) -> Scores:
    """The published scores; empty without the file, as in a run folder's copy of the code."""
    scores: Scores = {}
    if path.is_file():
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                scores.setdefault(row["method"], defaultdict(list))[row["game"]].append(float(row["score"]))
    return scores


def game_name(env_id: str) -> str:
    """The name of an environment without what the ids of Atari games share: Breakout, or any other id as it is."""
    return env_id.removeprefix("ALE/").removesuffix("NoFrameskip-v4").removesuffix("-v5")


def human_normalised(game: str, score: float, published: Scores) -> float | None:
    """(score - random) / (human - random) (Mnih et al. 2015); None for a game without a published human score."""
    if game not in published.get("Human", {}):
        return None
    random, human = published["Random"][game][0], published["Human"][game][0]
    return (score - random) / (human - random)
