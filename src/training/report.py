"""Output of a run: progress bars, logged metrics, and a line per epoch with the estimated remaining time."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from algorithms.base import Collect, Interleave, PlayEpisodes, Update
from component import Component
from rl.collector import Collector
from rl.results import Results
from run.folder import RunFolder
from run.log import Log, read_metrics
from run.media import draw_curves
from run.pace import Pace, in_words
from training.progress import Progress
from training.schedule import Schedule

SECONDS_BETWEEN_READINGS = 2.0


class Report:
    """Reports progress on the first rank; on the others `log` is None, and nothing is printed or logged."""

    def __init__(self, folder: RunFolder, schedule: Schedule, epoch_line: Mapping[str, str], log: Log | None) -> None:
        """`epoch_line` maps labels to the names of the metrics in the line of an epoch."""
        self._folder = folder
        self._schedule = schedule
        self._epoch_line = epoch_line
        self._log = log
        self._pace = Pace()
        self._test_length = 0.0

    @contextmanager
    def bar(self, words: str, progress: Progress, total: int, initial: int) -> Iterator[tqdm]:
        """A progress bar of the current phase; hidden if there is no terminal."""
        label = f"Epoch {progress.epoch}/{self._schedule.num_epochs(progress.first_collection)} {words}"
        hidden = None if self._log is not None else True
        with tqdm(desc=label, total=total, initial=initial, leave=False, disable=hidden, dynamic_ncols=True) as bar:
            yield bar

    @contextmanager
    def timed(self, kind: str) -> Iterator[list[float]]:
        """Time some work: the caller appends the number of completed units to the list."""
        units: list[float] = []
        started = time.monotonic()
        yield units
        self._pace.add(kind, sum(units), time.monotonic() - started)

    @contextmanager
    def collecting(
        self, words: str, collector: Collector, progress: Progress, total: int, done: int
    ) -> Iterator[Callable[[int], None]]:
        """Time a collector's steps, with a bar; the caller is given a function that is called with how much is done."""
        before = collector.num_steps
        with self.timed(words) as units, self.bar(words, progress, total, done) as bar:
            yield lambda done_now: bar.update(done_now - bar.n)
            units.append(collector.num_steps - before)

    def numbers(self, epoch: int, prefix: str, metrics: dict[str, float]) -> None:
        """Log metrics as `<prefix>/<name>`."""
        if self._log is not None and metrics:
            self._log.write(epoch, {f"{prefix}/{name}": value for name, value in metrics.items()})

    def updates(self, epoch: int, component: Component) -> None:
        """Log the averages of a component's last updates, as `<component>/updates/<name>`."""
        recent = component.read_recent()
        if self._log is not None:
            metrics = {f"{component.name}/updates/{name}": value for name, value in recent.items()}
            self._log.write(epoch, metrics, component.num_updates)

    def film(self, path: Path) -> None:
        """Log a film and the picture beside it."""
        if self._log is not None:
            self._log.film(path)

    def rate(self, epoch: int, kind: str) -> None:
        self.numbers(epoch, f"time/{kind}", {"updates_per_second": self._pace.rate(kind)})

    def picture(self, path: Path) -> None:
        """Show a picture in TensorBoard, if there is one at this path."""
        if self._log is not None and path.is_file():
            self._log.show(path)

    def episodes(self, epoch: int, name: str, results: Results, others: dict[str, float]) -> None:
        """Log `others`, and the returns and lengths of finished episodes."""
        if results.returns and name != "train":
            self._test_length = results.mean_length
        self.numbers(epoch, f"collection/{name}", {**others, **results.metrics()})

    def epoch(self, progress: Progress) -> None:
        """Print a line with metrics of the epoch and the remaining time; draw new curves if the epoch was tested."""
        if self._log is None:
            return
        epoch, num_epochs = progress.epoch, self._schedule.num_epochs(progress.first_collection)
        latest = self._log.latest(epoch)
        words = [f"{label} {latest[name]:.3f}" for label, name in self._epoch_line.items() if name in latest]
        left = self._pace.seconds_for(self._remaining(progress, num_epochs))
        tqdm.write(f"Epoch {epoch}/{num_epochs}: {', '.join(words)}; about {in_words(left)} left")
        self.numbers(epoch, "time", {"seconds": self._log.seconds, "seconds_left": left})
        if self._schedule.is_evaluated(epoch, num_epochs):
            draw_curves(read_metrics(self._folder.metrics), self._folder.media / "curves.png")

    def _remaining(self, progress: Progress, num_epochs: int) -> dict[str, float]:
        """Units of each kind of work in the remaining epochs."""
        units: dict[str, float] = {}
        last_collection = self._schedule.num_collecting_epochs(progress.first_collection)
        for epoch in range(progress.epoch + 1, num_epochs + 1):
            later = Progress(epoch=epoch, first_collection=progress.first_collection)
            for phase in self._schedule.phases(later):
                match phase:
                    case Update(component, updates):
                        kind, count = component, updates
                    case Collect(steps) if epoch <= last_collection:
                        kind, count = "Collecting", steps
                    case Interleave(collect) if epoch <= last_collection:
                        kind, count = "Interleaving", collect.steps
                    case PlayEpisodes(episodes):
                        kind, count = "Playing test episodes", episodes * self._test_length
                    case _:
                        continue
                units[kind] = units.get(kind, 0.0) + count
        return units


class LossInBar:
    """Advances a bar, and shows the loss from time to time only, because reading it waits for the device."""

    def __init__(self, bar: tqdm, component: Component) -> None:
        self._bar, self._component, self._last = bar, component, time.monotonic()

    def __call__(self, units: int = 1) -> None:
        self._bar.update(units)
        if time.monotonic() - self._last > SECONDS_BETWEEN_READINGS:
            self._bar.set_postfix(loss=f"{self._component.read_loss():.4f}")
            self._last = time.monotonic()
