"""Which run is which: its game, algorithm, seed and settings, and the runs that differ in the seed only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.published import game_name

NO_DIFFERENCE = ("common.", "wandb.", "hydra.", "checkpointing.", "evaluation.", "collection.test.", "env.test.id")
"""Settings that do not change what is learnt, by the beginnings of their names."""
NO_DIFFERENCE_IN_TRAINING = ("precision", "compile", "replay_device", "offload_idle", "gradient_checkpointing")
MOST_IN_LABEL = 3


@dataclass(frozen=True)
class Identity:
    """What identifies a run. `settings` are those that change what is learnt, as JSON texts by their whole names."""

    path: Path
    game: str
    algorithm: str
    seed: int | None
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Runs of one game and algorithm that differ in their seeds only, as places in a list of runs.

    `label` is the algorithm. If there are other groups of the same game and algorithm, it also names the settings by
    which they differ.
    """

    game: str
    label: str
    members: tuple[int, ...]


def identify(path: Path, config: Mapping[str, Any]) -> Identity:
    """The identity of a run with these settings, a nest of dictionaries."""
    flat = dict(_flatten(config))
    game, algorithm = game_name(str(config["env"]["test"]["id"])), str(config["algorithm"]["name"])
    ignored = (*NO_DIFFERENCE, *(f"training.{name}" for name in NO_DIFFERENCE_IN_TRAINING))
    settings = {name: value for name, value in flat.items() if not name.startswith(ignored)}
    return Identity(path, game, algorithm, config["common"].get("seed"), settings)


def group_runs(runs: Sequence[Identity]) -> list[Group]:
    """Put runs of equal settings together, in the order in which they first appear."""
    keys = [(run.game, run.algorithm, tuple(sorted(run.settings.items()))) for run in runs]
    groups = []
    for key in dict.fromkeys(keys):
        members = tuple(place for place, other in enumerate(keys) if other == key)
        groups.append(Group(key[0], _label(runs[members[0]], runs), members))
    return groups


def _label(run: Identity, runs: Sequence[Identity]) -> str:
    """The algorithm, and the settings by which similar runs differ from each other."""
    similar = [other for other in runs if (other.game, other.algorithm) == (run.game, run.algorithm)]
    names = dict.fromkeys(name for other in similar for name in other.settings)
    differing = [name for name in names if len({other.settings.get(name) for other in similar}) > 1]
    shown = [f"{name}={run.settings.get(name, 'absent')}" for name in differing[:MOST_IN_LABEL]]
    more = ["…"] if len(differing) > MOST_IN_LABEL else []
    return f"{run.algorithm} ({', '.join(shown + more)})" if shown else run.algorithm


def _flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Whole names of settings, and their values as JSON texts."""
    entries = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            entries += _flatten(value, f"{prefix}{name}.")
        else:
            entries.append((f"{prefix}{name}", json.dumps(value, default=str)))
    return entries
