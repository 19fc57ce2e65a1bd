"""A runner for each kind of phase. Each can stop between any two steps and resume there."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from algorithms.base import Algorithm, Collect, EvaluateWorld, Interleave, Phase, PlayEpisodes, Save, Update
from component import Component
from rl.collector import Collector
from run.ranks import Ranks
from training.data import RunData
from training.evaluations import Evaluations
from training.progress import Progress
from training.report import LossInBar, Report
from training.stops import Stops


@dataclass
class Runners:
    """The objects that phases use. The collector is None on all ranks except the first, and without environments.

    `num_steps_total` limits the number of steps that a run collects. Metrics of updates are logged at the end of each
    phase, and within it after each `log_every` updates.
    """

    algorithm: Algorithm
    data: RunData
    collect_train: Collector | None
    num_steps_total: int
    log_every: int | None
    evaluations: Evaluations
    ranks: Ranks
    progress: Progress
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
                self._alone(partial(self.evaluations.play_episodes, phase))
            case EvaluateWorld():
                self._alone(self.evaluations.evaluate_world)
            case Save():
                self._alone(self.evaluations.save)

    def _collect(self, phase: Collect) -> None:
        collector, dataset = self.collect_train, self.data.train.dataset
        room = self.num_steps_total - (dataset.num_steps - collector.num_stored_steps)
        if not self.progress.phase_has_begun:
            room = self.num_steps_total - dataset.num_steps
        if room <= 0:
            return
        self._begin_collection()

        most, done = phase.most(room), collector.num_steps
        with self.report.collecting("Collecting", collector, self.progress, most, done) as show:
            while not self._is_enough(phase, room):
                collector.step(ahead=collector.num_steps + collector.num_envs < min(phase.steps, most))
                show(collector.num_steps)
                self.stops.between_steps()
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
                self._update_once(component)
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
                    self._update_once(component)
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

    def _update_once(self, component: Component) -> None:
        component.update()
        if self.log_every is not None and component.num_updates % self.log_every == 0:
            self.report.updates(self.progress.epoch, component)

    def _end_updates(self, component: Component) -> None:
        metrics = {**component.finish_phase(), "num_updates": component.num_updates}
        self.report.numbers(self.progress.epoch, f"{component.name}/train", metrics)
        self.report.rate(self.progress.epoch, component.name)

    def _has_seen(self, wanted: int) -> bool:
        """Whether `wanted` rewards have been seen whose sign is not the most common one."""
        counts = self.data.train.dataset.info.counter_rew + self.collect_train.unstored_rewards()
        return counts.total() - max(counts.values(), default=0) >= wanted

    def _alone(self, work: Callable[[], None]) -> None:
        """Call `work` on the first rank; the others then receive the collected episodes and the progress."""
        self.stops.alone(work)
        train = self.data.train
        added, progress = self.ranks.broadcast((train.take_added(), asdict(self.progress)))
        if not self.ranks.is_first:
            train.follow(added)
            vars(self.progress).update(progress)
