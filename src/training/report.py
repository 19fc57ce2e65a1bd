"""What a run says while it works: bars, logged numbers, a line an epoch, and how long the rest will take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from rl.collector import Collector
from run.folder import RunFolder
from run.log import Log, read_metrics
from run.pace import Pace, in_words
from training.checkpoint import Progress
from training.config import TrainerConfig
from training.parts import Parts
from training.schedule import Schedule

SHOWN_IN_EPOCH_LINE = {
    "return": "collection/test/return_mean",
    "denoiser loss": "denoiser/train/loss_denoising",
    "upsampler loss": "upsampler/train/loss_denoising",
    "reward and end loss": "rew_end_model/train/loss_total",
    "policy entropy": "actor_critic/train/entropy",
}


class Report:
    """The voice of the first rank; on the others (`log` is None) it is silent."""

    def __init__(self, folder: RunFolder, config: TrainerConfig, log: Log | None) -> None:
        self._folder = folder
        self._config = config
        self._schedule = Schedule(config)
        self._log = log
        self._pace = Pace()

    @contextmanager
    def bar(self, words: str, progress: Progress, total: int, initial: int) -> Iterator[tqdm]:
        """A bar of the phase's work; hidden where there is no terminal."""
        label = f"Epoch {progress.epoch}/{self._schedule.num_epochs(progress.first_collection)} {words}"
        hidden = None if self._log is not None else True
        with tqdm(desc=label, total=total, initial=initial, leave=False, disable=hidden, dynamic_ncols=True) as bar:
            yield bar

    @contextmanager
    def timed(self, kind: str) -> Iterator[list[float]]:
        """Measure work: the caller puts into the list how many units it did."""
        units: list[float] = []
        started = time.monotonic()
        yield units
        self._pace.add(kind, sum(units), time.monotonic() - started)

    def numbers(self, epoch: int, prefix: str, metrics: dict[str, float]) -> None:
        """Log numbers under a prefix of their names."""
        if self._log is not None and metrics:
            self._log.write(epoch, {f"{prefix}/{name}": value for name, value in metrics.items()})

    def rate(self, epoch: int, kind: str) -> None:
        self.numbers(epoch, f"time/{kind}", {"updates_per_second": self._pace.rate(kind)})

    def episodes(self, epoch: int, name: str, collector: Collector, others: dict[str, float]) -> None:
        """Log the returns and lengths of the episodes that a collector finished."""
        metrics = dict(others)
        if collector.returns:
            returns = np.array(collector.returns)
            metrics |= {
                "num_episodes": len(returns),
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "return_min": float(returns.min()),
                "return_max": float(returns.max()),
                "length_mean": float(np.mean(collector.lengths)),
            }
        self.numbers(epoch, f"collection/{name}", metrics)

    def epoch(self, progress: Progress, parts: Parts) -> None:
        """One line: what was learnt, and how long the rest will take."""
        if self._log is None:
            return
        epoch, num_epochs = progress.epoch, self._schedule.num_epochs(progress.first_collection)
        latest: dict[str, float] = {}
        for line in read_metrics(self._folder.metrics):
            if line["epoch"] == epoch:
                latest |= line
        words = [f"{label} {latest[name]:.3f}" for label, name in SHOWN_IN_EPOCH_LINE.items() if name in latest]
        left = self._pace.seconds_for(self._remaining(progress, parts, num_epochs))
        tqdm.write(f"Epoch {epoch}/{num_epochs}: {', '.join(words)}; about {in_words(left)} left")
        self.numbers(epoch, "time", {"seconds_left": left})

    def _remaining(self, progress: Progress, parts: Parts, num_epochs: int) -> dict[str, float]:
        """Units of each kind of work in the epochs to come."""
        epochs = range(progress.epoch + 1, num_epochs + 1)
        units = {
            name: sum(component.updates_in_epoch(epoch) for epoch in epochs)
            for name, component in parts.components.items()
        }
        if self._schedule.collects:
            units["Collecting"] = max(0, self._config.collect_train.num_steps_total - parts.train.dataset.num_steps)
        if parts.collect_test is not None and parts.collect_test.lengths:
            test = self._config.collect_test
            evaluations = sum(self._schedule.is_evaluated(epoch, num_epochs) for epoch in epochs)
            episodes = evaluations * test.num_episodes + (test.num_final_episodes if epochs else 0)
            units["Playing test episodes"] = episodes * float(np.mean(parts.collect_test.lengths))
        return units
