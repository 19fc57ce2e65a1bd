"""The phases that test what was learnt: test episodes, losses and films of the world, and saved weights."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from algorithms.base import Algorithm, PlayEpisodes, World
from algorithms.config import CheckpointingConfig, EvaluationConfig
from component import Component
from rl.collector import Collector
from run.folder import RunFolder
from training.data import RunData
from training.film import film_is_due, film_world, picture_predictions
from training.progress import Progress
from training.report import Report
from training.schedule import Schedule
from training.stops import Stops


@dataclass
class Evaluations:
    """The objects that these phases use, on the first rank; `collect_test` is None without environments."""

    algorithm: Algorithm
    data: RunData
    collect_test: Collector | None
    evaluation: EvaluationConfig
    checkpointing: CheckpointingConfig
    folder: RunFolder
    device: torch.device
    progress: Progress
    schedule: Schedule
    report: Report
    stops: Stops

    def play_episodes(self, phase: PlayEpisodes) -> None:
        collector, test = self.collect_test, self.data.test
        if phase.count == 0:
            return
        if not self.progress.phase_has_begun:
            test.start_over()
            collector.begin(phase.count, phase.at_random)
            self.progress.phase_has_begun = True
        done = len(collector.returns)
        with self.report.collecting("Playing test episodes", collector, self.progress, phase.count, done) as show:
            for done_now in collector.rest():
                show(done_now)
                self.stops.between_steps()
        test.dataset.save_info()
        self.report.episodes(self._epoch, phase.name, collector.results, {})
        mean_return, best = collector.results.mean_return, self.progress.best_return
        if phase.name == "test" and self._epoch > 0 and (best is None or mean_return > best):
            self.progress.best_return, self.progress.best_epoch = mean_return, self._epoch
            self._save_agent(self.folder.next_best_agent(self._epoch))

    def evaluate_world(self) -> None:
        test, components = self.data.test, self.algorithm.components
        if test.dataset.num_episodes > 0:
            tests = {name: self._test(each) for name, each in components.items() if each.test_draws is not None}
            for name, numbers in tests.items():
                self.report.numbers(self._epoch, f"{name}/test", numbers)
            if self.algorithm.policy is None and self._epoch > 0:
                self._keep_if_best(next(iter(tests.values()), {}))
            world = self.algorithm.world(1)
            if world is not None and film_is_due(self.evaluation.video_interval, self.data.train, self.progress):
                self._film(world)

    def save(self) -> None:
        self._save_agent(self.folder.agent_version(self.progress.epoch))
        versions = sorted(self.folder.agent_versions.glob("agent_epoch_*.pt"))
        to_keep = self.checkpointing.num_to_keep
        for path in versions[:-to_keep] if to_keep is not None else ():
            path.unlink()

    def _keep_if_best(self, numbers: dict[str, float]) -> None:
        """Without a policy, the best weights have the least test loss of the first component."""
        losses = [value for name, value in numbers.items() if name.startswith("loss")]
        if losses and (self.progress.best_loss is None or losses[0] < self.progress.best_loss):
            self.progress.best_loss, self.progress.best_epoch = losses[0], self._epoch
            self._save_agent(self.folder.next_best_agent(self._epoch))

    def _film(self, world: World) -> None:
        """A film of the world beside test episodes; without a policy, pictures of its predictions, too."""
        test, media, epoch = self.data.test, self.folder.media, f"epoch_{self._epoch:05d}"
        with contextlib.ExitStack() as stack:
            for each in self.algorithm.components.values():
                stack.enter_context(each.at_work(trains=False))
            path = media / f"real_and_imagined_{epoch}.mp4"
            if film_world(world, test, self.evaluation.video_steps, self.device, path):
                self.report.film(path)
            if self.algorithm.policy is None:
                path = media / f"predictions_{epoch}.png"
                picture_predictions(world, test, self.device, path)
                self.report.picture(path)

    def _save_agent(self, path: Path) -> None:
        for component in self.algorithm.components.values():
            component.check_finite()
        self.algorithm.agent.save(path)

    def _test(self, component: Component) -> dict[str, float]:
        """Averages of a component's metrics over the test data, or part of it."""
        draws, test = component.test_draws, self.data.test
        segments = draws.test_segments(test, component.training.batch_size, self.evaluation.max_batches)
        bar = tqdm(segments, f"Testing {component.name}", leave=False, disable=None, delay=1)
        with component.at_work(trains=False):
            return component.evaluate(draws.gather(test, each) for each in bar)

    @property
    def _epoch(self) -> int:
        """The epoch for logging: 0 before the first training phase."""
        return 0 if self.schedule.is_untrained(self.progress) else self.progress.epoch
