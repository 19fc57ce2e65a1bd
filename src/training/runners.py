"""A runner for each kind of phase. Each can stop between any two steps and resume there."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from algorithms.base import Algorithm, Collect, EvaluateWorld, Interleave, Phase, PlayEpisodes, Save, Update
from algorithms.config import CheckpointingConfig, EvaluationConfig
from component import Component
from rl.collector import Collector
from run.folder import RunFolder
from run.ranks import Ranks
from training.data import RunData
from training.film import film_is_due, film_world, picture_predictions
from training.progress import Progress
from training.report import LossInBar, Report
from training.schedule import Schedule
from training.stops import Stops


@dataclass
class Runners:
    """The objects that phases use. Collectors are None on all ranks except the first, and without environments.

    `num_steps_total` limits the number of steps that a run collects.
    """

    algorithm: Algorithm
    data: RunData
    collect_train: Collector | None
    collect_test: Collector | None
    num_steps_total: int
    evaluation: EvaluationConfig
    checkpointing: CheckpointingConfig
    folder: RunFolder
    ranks: Ranks
    progress: Progress
    schedule: Schedule
    report: Report
    stops: Stops

    def run(self, phase: Phase) -> None:
        match phase:
            case Collect():
                self._alone(partial(self._collect, phase))
            case Update():
                self._update(phase)
            case Interleave():
                self._interleave(phase)
            case PlayEpisodes():
                self._alone(partial(self._play_episodes, phase))
            case EvaluateWorld():
                self._alone(self._evaluate_world)
            case Save():
                self._alone(self._save)

    @property
    def _epoch(self) -> int:
        """The epoch for logging: 0 before the first training phase."""
        return 0 if self.schedule.is_untrained(self.progress) else self.progress.epoch

    def _collect(self, phase: Collect) -> None:
        collector, dataset = self.collect_train, self.data.train.dataset
        room = self.num_steps_total - (dataset.num_steps - collector.num_stored_steps)
        if not self.progress.phase_has_begun:
            room = self.num_steps_total - dataset.num_steps
        if room <= 0:
            return
        self._begin_collection()

        def steps() -> Iterator[int]:
            while not self._is_enough(phase, room):
                collector.step()
                yield collector.num_steps

        self._take(steps(), collector, "Collecting", phase.most(room), collector.num_steps)
        collector.store_unfinished()
        self._end_collection()

    def _update(self, phase: Update) -> None:
        component = self.algorithm.components[phase.component]
        done = component.num_updates_in_phase
        if phase.updates == 0:
            return
        with (
            component.at_work(),
            self.report.timed(phase.component) as units,
            self.report.bar(phase.component, self.progress, phase.updates, done) as bar,
        ):
            show = LossInBar(bar, component)
            while component.num_updates_in_phase < phase.updates:
                component.update()
                show()
                self.stops.between_steps()
            units.append(phase.updates - done)
        self._end_updates(component)

    def _interleave(self, phase: Interleave) -> None:
        progress, replay = self.progress, self.data.train.replay
        components = [self.algorithm.components[name] for name in phase.update]
        room = self.num_steps_total - (replay.num_steps - progress.steps)
        if room <= 0:
            return
        if not progress.phase_has_begun:
            self._alone(self._begin_collection)
        before, updates_before = progress.steps, [each.num_updates_in_phase for each in components]
        with (
            contextlib.ExitStack() as stack,
            self.report.timed("Interleaving") as units,
            self.report.bar("Interleaving", progress, phase.collect.most(room), before) as bar,
        ):
            counts = [stack.enter_context(self.report.timed(each.name)) for each in components]
            for each in components:
                stack.enter_context(each.at_work())
            show = LossInBar(bar, components[0])
            while True:
                component = min(components, key=lambda each: each.num_updates)
                if component.num_updates < phase.num_due(replay.num_steps + int(replay.is_over.sum())):
                    component.update()
                    show(0)
                elif not progress.has_collected:
                    self._alone(partial(self._collect_and_store, phase.collect, room))
                    show(progress.steps - bar.n)
                else:
                    break
                self.stops.between_steps()
            units.append(progress.steps - before)
            for each, count, start in zip(components, counts, updates_before, strict=True):
                count.append(each.num_updates_in_phase - start)
        for each in components:
            self._end_updates(each)
        self._alone(self._end_collection)

    def _play_episodes(self, phase: PlayEpisodes) -> None:
        collector, test = self.collect_test, self.data.test
        if phase.count == 0:
            return
        if not self.progress.phase_has_begun:
            test.start_over()
            collector.begin(phase.count, phase.at_random)
            self.progress.phase_has_begun = True
        self._take(collector.rest(), collector, "Playing test episodes", phase.count, len(collector.returns))
        test.dataset.save_info()
        self.report.episodes(self._epoch, phase.name, collector.results, {})
        mean_return, best = collector.results.mean_return, self.progress.best_return
        if phase.name == "test" and self._epoch > 0 and (best is None or mean_return > best):
            self.progress.best_return, self.progress.best_epoch = mean_return, self._epoch
            self._save_agent(self.folder.next_best_agent(self._epoch))

    def _evaluate_world(self) -> None:
        test, components = self.data.test, self.algorithm.components
        if test.dataset.num_episodes > 0:
            tests = {name: self._test(each) for name, each in components.items() if each.test_draws is not None}
            for name, numbers in tests.items():
                self.report.numbers(self._epoch, f"{name}/test", numbers)
            if self.algorithm.policy is None and self._epoch > 0:
                self._keep_if_best(next(iter(tests.values()), {}))
            world = self.algorithm.world(1)
            if world is not None and film_is_due(self.evaluation.video_interval, self.data.train, self.progress):
                with contextlib.ExitStack() as stack:
                    for each in components.values():
                        stack.enter_context(each.at_work(trains=False))
                    path = self.folder.media / f"real_and_imagined_epoch_{self._epoch:05d}.mp4"
                    if film_world(world, test, self.evaluation.video_steps, self.ranks.device, path):
                        self.report.film(path)
                    if self.algorithm.policy is None:
                        path = self.folder.media / f"predictions_epoch_{self._epoch:05d}.png"
                        picture_predictions(world, test, self.ranks.device, path)
                        self.report.picture(path)

    def _keep_if_best(self, numbers: dict[str, float]) -> None:
        """Without a policy, the best weights have the least test loss of the first component."""
        losses = [value for name, value in numbers.items() if name.startswith("loss")]
        if losses and (self.progress.best_loss is None or losses[0] < self.progress.best_loss):
            self.progress.best_loss, self.progress.best_epoch = losses[0], self._epoch
            self._save_agent(self.folder.next_best_agent(self._epoch))

    def _save(self) -> None:
        self._save_agent(self.folder.agent_version(self.progress.epoch))
        versions = sorted(self.folder.agent_versions.glob("agent_epoch_*.pt"))
        to_keep = self.checkpointing.num_to_keep
        for path in versions[:-to_keep] if to_keep is not None else ():
            path.unlink()

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

    def _begin_collection(self) -> None:
        if self.progress.phase_has_begun:
            return
        if not self.collect_train.has_begun:
            self.collect_train.begin()
        self.collect_train.forget_results()
        self.progress.phase_has_begun = True

    def _collect_and_store(self, phase: Collect, room: int) -> None:
        """Step every environment, and store the steps for the next update."""
        self.collect_train.step()
        self.collect_train.store_unfinished()
        self.progress.steps = self.collect_train.num_steps
        self.progress.has_collected = self._is_enough(phase, room)

    def _is_enough(self, phase: Collect, room: int) -> bool:
        """Whether the phase has collected what it asks for, or all that there is `room` for."""
        count = self.collect_train.num_steps
        return count >= phase.most(room) or (count >= phase.steps and self._has_seen(phase.rewards))

    def _end_collection(self) -> None:
        collector, progress, dataset = self.collect_train, self.progress, self.data.train.dataset
        dataset.save_info()
        if progress.epoch == 1:
            progress.first_collection = (progress.first_collection or 0) + collector.num_steps
        others = {"num_steps": float(dataset.num_steps)}
        progress.see_scores(collector.results.returns)
        if progress.best_score is not None:
            others["return_best"] = progress.best_score
        self.report.episodes(progress.epoch, "train", collector.results, others)

    def _end_updates(self, component: Component) -> None:
        metrics = {**component.finish_phase(), "num_updates": component.num_updates}
        self.report.numbers(self.progress.epoch, f"{component.name}/train", metrics)
        self.report.rate(self.progress.epoch, component.name)

    def _has_seen(self, wanted: int) -> bool:
        """Whether `wanted` rewards have been seen whose sign is not the most common one."""
        counts = self.data.train.dataset.info.counter_rew + self.collect_train.unstored_rewards()
        return counts.total() - max(counts.values(), default=0) >= wanted

    def _take(self, steps: Iterator[int], collector: Collector, words: str, total: int, done: int) -> None:
        """Take steps in the environments, which yield how much is done; the run can stop after each."""
        before = collector.num_steps
        with self.report.timed(words) as units, self.report.bar(words, self.progress, total, done) as bar:
            for done_now in steps:
                bar.update(done_now - bar.n)
                self.stops.between_steps()
            units.append(collector.num_steps - before)

    def _alone(self, work: Callable[[], None]) -> None:
        """Call `work` on the first rank; the others then receive the collected episodes and the progress."""
        self.stops.alone(work)
        train = self.data.train
        added, progress = self.ranks.broadcast((train.take_added(), asdict(self.progress)))
        if not self.ranks.is_first:
            train.follow(added)
            vars(self.progress).update(progress)
