"""What the files of a run tell about it: settings, metrics, and evaluations. Nothing of the run is executed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from tqdm import tqdm

from errors import UserError
from evaluation.records import read_records
from evaluation.runs import Identity, identify
from run.folder import RunFolder
from run.log import read_metrics
from trained.source import is_run, load_config

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Curve:
    """A metric over training, float64 (n) each: epochs, real steps and hours of training, and values.

    Steps and hours are nan where the run's log does not tell them.
    """

    epochs: np.ndarray
    steps: np.ndarray
    hours: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class History:
    """The files of one run: lines of `metrics.jsonl`, and of `evaluation.jsonl`."""

    run: Identity
    metrics: Sequence[dict[str, float]]
    records: Sequence[dict[str, Any]]

    @property
    def is_finished(self) -> bool:
        """Whether no time was left after the last epoch; where no times were logged, whether it played to the end."""
        left = self.last("time/seconds_left")
        return self.final_return is not None if left is None else left == 0

    @property
    def final_return(self) -> float | None:
        """The mean return of the final test episodes; None if it has not played them."""
        return self.last("collection/final/return_mean")

    @property
    def latest_return(self) -> float | None:
        """The mean return of the final test episodes, or of the last ones before."""
        return self.last("collection/test/return_mean") if self.final_return is None else self.final_return

    @property
    def evaluated_returns(self) -> list[float]:
        """The returns of the last evaluation of this run's agent in its test environment; empty without one."""
        of_agent = [
            record["returns"]
            for record in self.records
            if record.get("player") == "agent" and record.get("settings", {}).get("env") == "test"
        ]
        return [value for value in of_agent[-1] if value is not None] if of_agent else []

    @cached_property
    def names(self) -> list[str]:
        """The names of all metrics, in the order in which they first appear."""
        return list(dict.fromkeys(name for line in self.metrics for name in line))

    def last(self, name: str) -> float | None:
        """The last value of a metric."""
        return next((line[name] for line in reversed(self.metrics) if name in line), None)

    def curve(self, name: str) -> Curve:
        """A metric over training. Epoch 0, before training, has no steps and takes no time."""
        points = {int(line["epoch"]): line[name] for line in self.metrics if name in line}
        steps, seconds = {0: 0.0}, {0: 0.0}
        for line in self.metrics:
            epoch = int(line["epoch"])
            steps[epoch] = line.get("collection/train/num_steps", steps.get(epoch, max(steps.values())))
            if "time/seconds" in line:
                seconds[epoch] = line["time/seconds"]
        if max(steps.values()) == 0:
            steps = {}
        hours = [seconds.get(epoch, math.nan) / SECONDS_PER_HOUR for epoch in points]
        if len(seconds) == 1:
            hours = [math.nan] * len(points)
        columns = (list(points), [steps.get(epoch, math.nan) for epoch in points], hours, list(points.values()))
        return Curve(*(np.array(column, np.float64) for column in columns))


def read_histories(folders: Sequence[Path]) -> list[History]:
    """Read the files of several runs, once for each folder.

    Raises UserError for a folder that is not a run's, and for damaged files.
    """
    named: dict[Path, Path] = {}
    for folder in folders:
        named.setdefault(folder.resolve(), folder)
    return [read_history(folder) for folder in tqdm(named.values(), "Reading runs", leave=False, delay=1)]


def read_history(folder: Path) -> History:
    """Read the files of one run; its log can be missing, or end in the middle of a line."""
    if not is_run(folder):
        raise UserError(f"{folder} is not a run folder: it has no config/trainer.yaml of a run.")
    config = OmegaConf.to_container(load_config(folder), resolve=True)
    try:
        run = identify(folder, config)
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{RunFolder(folder).config} lacks one of algorithm.name, common.seed, env.test.id.") from None
    return History(run, read_metrics(RunFolder(folder).metrics), read_records(folder))
