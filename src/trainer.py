"""The epoch loop: collect, train every component, evaluate, and be able to stop and go on anywhere in between."""

import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from rl.collector import Collector
from run.compiled import uncompiled
from run.folder import RunFolder
from run.interrupt import Interrupted, Interrupts
from run.log import Log, read_metrics
from run.media import draw_curves
from run.ranks import Ranks
from training.checkpoint import Progress, load_checkpoint, save_checkpoint
from training.config import TrainerConfig
from training.evaluation import evaluate_world_model, film, load_replay
from training.parts import build_parts
from training.report import Report
from training.schedule import Schedule

SECONDS_BETWEEN_READINGS = 2.0


class Trainer:
    """Trains an agent in a run folder, from the beginning or from its last checkpoint.

    An epoch is a row of phases. Each phase returns at once when it is not due, and goes on where it stopped.
    """

    def __init__(self, config: TrainerConfig, folder: RunFolder, ranks: Ranks, log_config: dict[str, Any]) -> None:
        self.config = config
        self.folder = folder
        self.ranks = ranks
        self.schedule = Schedule(config)
        self.progress = Progress()
        self.interrupts = Interrupts()
        self.interrupts.listen()
        self.parts = build_parts(config, folder, ranks)
        position = self._begin_or_go_on()
        self.log = Log(folder, config.wandb, log_config, position) if ranks.is_first else None
        self.report = Report(folder, config, self.log)
        self._last_checkpoint = time.monotonic()
        self._acts_alone = False
        self._phases: dict[str, Callable[[], None]] = {
            "collect": lambda: self._alone(self._collect),
            "play_untrained": lambda: self._alone(self._play_untrained),
            "evaluate_untrained": lambda: self._alone(self._evaluate_untrained),
            **{name: lambda name=name: self._train(name) for name in self.parts.components},
            "play": lambda: self._alone(self._play),
            "evaluate": lambda: self._alone(self._evaluate),
            "save": lambda: self._alone(self._save_agent),
            "play_final": lambda: self._alone(self._play_final),
        }

    @property
    def num_epochs(self) -> int:
        return self.schedule.num_epochs(self.progress.first_collection)

    def run(self) -> None:
        """Train to the end. Raises Interrupted after a SIGINT or SIGTERM, with a checkpoint written."""
        names = list(self._phases)
        while not self.progress.is_finished:
            for name in names[names.index(self.progress.phase) :]:
                if self.progress.phase != name:
                    self.progress.phase, self.progress.phase_has_begun = name, False
                self._phases[name]()
            self.report.epoch(self.progress, self.parts)
            self.progress.is_finished = self.progress.epoch >= self.num_epochs
            self.progress.epoch += 1
            self.progress.phase, self.progress.phase_has_begun = names[0], False
            self._checkpoint()
        if self.log is not None:
            self.log.close()

    def _collect(self) -> None:
        collector, progress, dataset = self.parts.collect_train, self.progress, self.parts.train.dataset
        is_first = progress.epoch == 1
        if not self.schedule.collects or (
            progress.epoch > self.schedule.num_collecting_epochs(progress.first_collection)
        ):
            return
        if not progress.phase_has_begun:
            if not collector.has_begun:
                collector.begin()
            collector.forget_results()
            progress.phase_has_begun = True
        least, most = self.schedule.collection_bounds(is_first, dataset.num_steps - collector.num_stored_steps)

        def is_enough() -> bool:
            steps = collector.num_steps
            return steps >= most or (steps >= least and (not is_first or self._has_seen_rewards()))

        self._step_until(is_enough, collector, "Collecting", most, lambda: collector.num_steps)
        collector.store_unfinished()
        dataset.save_info()
        if is_first:
            progress.first_collection = collector.num_steps
        self.report.episodes(progress.epoch, "train", collector, {"num_steps": float(dataset.num_steps)})

    def _has_seen_rewards(self) -> bool:
        """Whether the rewards of all signs but the most common one are many enough to learn from."""
        counts = self.parts.train.dataset.counter_rew + self.parts.collect_train.unstored_rewards()
        wanted = self.config.collect_train.first_epoch.threshold_rew
        return counts.total() - max(counts.values(), default=0) >= wanted

    def _play_untrained(self) -> None:
        if self.progress.epoch == 1 and self.config.evaluation.untrained:
            self._play_test_episodes("test", self.config.collect_test.num_episodes, epoch=0)

    def _evaluate_untrained(self) -> None:
        if self.progress.epoch == 1 and self.config.evaluation.untrained:
            self._evaluate_world_model(epoch=0)

    def _train(self, name: str) -> None:
        component, epoch = self.parts.components[name], self.progress.epoch
        total = component.updates_in_epoch(epoch)
        if total == 0:
            return
        done = component.num_updates_in_epoch
        self.parts.make_room_for(name)
        if name == "actor_critic" and done == 0:
            self.parts.rollouts.begin_phase()
        with self.report.timed(name) as units, self.report.bar(name, self.progress, total, done) as bar:
            last_reading = time.monotonic()
            while component.num_updates_in_epoch < total:
                component.update()
                bar.update()
                if time.monotonic() - last_reading > SECONDS_BETWEEN_READINGS:
                    bar.set_postfix(loss=f"{component.read_loss():.4f}")
                    last_reading = time.monotonic()
                self._between_steps()
            metrics = component.finish_epoch()
            units.append(total - done)
        self.report.numbers(epoch, f"{name}/train", {**metrics, "num_updates": component.num_updates})
        self.report.rate(epoch, name)

    def _play(self) -> None:
        if not self.schedule.plays or not self.schedule.is_evaluated(self.progress.epoch, self.num_epochs):
            return
        self._play_test_episodes("test", self.config.collect_test.num_episodes, self.progress.epoch)
        mean_return = float(np.mean(self.parts.collect_test.returns or [-np.inf]))
        if self.progress.best_return is None or mean_return > self.progress.best_return:
            self.progress.best_return = mean_return
            self.parts.agent.save(self.folder.best_agent)

    def _evaluate(self) -> None:
        if self.schedule.is_evaluated(self.progress.epoch, self.num_epochs):
            self._evaluate_world_model(self.progress.epoch)

    def _save_agent(self) -> None:
        epoch, to_keep = self.progress.epoch, self.config.checkpointing.num_to_keep
        if not self.schedule.is_saved(epoch, self.num_epochs):
            return
        self.parts.agent.save(self.folder.agent_version(epoch))
        if to_keep is not None:
            for path in sorted(self.folder.agent_versions.glob("agent_epoch_*.pt"))[:-to_keep]:
                path.unlink()

    def _play_final(self) -> None:
        count = self.config.collect_test.num_final_episodes
        if self.schedule.plays and self.progress.epoch == self.num_epochs and count > 0:
            self._play_test_episodes("final", count, self.progress.epoch)
            self._draw_curves()

    def _play_test_episodes(self, name: str, count: int, epoch: int) -> None:
        collector = self.parts.collect_test
        if collector is None or count == 0:
            return
        if not self.progress.phase_has_begun:
            self.parts.test.clear()
            collector.begin(count)
            self.progress.phase_has_begun = True
        words = "Playing test episodes"
        self._step_until(lambda: collector.is_complete, collector, words, count, lambda: len(collector.returns))
        self.parts.test.save_info()
        self.report.episodes(epoch, name, collector, {})

    def _evaluate_world_model(self, epoch: int) -> None:
        if self.parts.test.num_episodes > 0 and not self.config.run.model_free:
            replay = load_replay(self.parts.test, is_static=not self.schedule.plays)
            for name, metrics in evaluate_world_model(self.parts, self.config, replay).items():
                self.report.numbers(epoch, f"{name}/test", metrics)
            film(self.parts, self.config, replay, self.folder.media / f"real_and_imagined_epoch_{epoch:05d}.mp4")
        self._draw_curves()

    def _draw_curves(self) -> None:
        draw_curves(read_metrics(self.folder.metrics), self.folder.media / "curves.png")

    def _step_until(
        self, is_done: Callable[[], bool], collector: Collector, words: str, total: int, count: Callable[[], int]
    ) -> None:
        before = collector.num_steps
        with self.report.timed(words) as units, self.report.bar(words, self.progress, total, count()) as bar:
            while not is_done():
                collector.step()
                bar.update(count() - bar.n)
                self._between_steps()
            units.append(collector.num_steps - before)

    def _between_steps(self) -> None:
        """Write a checkpoint when one is due; raise Interrupted when the run was asked to stop."""
        age = time.monotonic() - self._last_checkpoint
        order = 2 if self.interrupts.received else 1 if age > 60 * self.config.checkpointing.minutes else 0
        if not self._acts_alone:
            order = self.ranks.largest(order)
        elif order > 0:
            self.ranks.broadcast(order)
        if order > 0:
            self._obey(order)

    def _obey(self, order: int) -> None:
        """Write a checkpoint (1), or write one and stop (2)."""
        self._checkpoint()
        if order == 2:
            raise Interrupted(self.interrupts.received or signal.SIGTERM)

    def _alone(self, work: Callable[[], None]) -> None:
        """Do work on the first rank; the others join its checkpoints and then take over what it collected."""
        if self.ranks.is_first:
            self._acts_alone = True
            with uncompiled():
                work()
            self._acts_alone = False
            self.ranks.broadcast(0)
        else:
            while (order := self.ranks.broadcast(None)) > 0:
                self._obey(order)
        added, progress = self.ranks.broadcast((self.parts.train.take_added(), asdict(self.progress)))
        if not self.ranks.is_first:
            self.parts.train.follow(added)
            self.progress = Progress(**progress)

    def _checkpoint(self) -> None:
        save_checkpoint(self.folder, self.progress, self.parts, self.ranks, self.log)
        self._last_checkpoint = time.monotonic()

    def _begin_or_go_on(self) -> int:
        """Go back to the last checkpoint, or clear what was written before the first; returns the log's position."""
        owns_data = self.schedule.plays
        if self.ranks.is_first:
            self.folder.remove_parts()
        if self.folder.state.exists():
            self.progress, position = load_checkpoint(self.folder, self.parts, self.ranks, owns_data)
            return position
        if owns_data and self.ranks.is_first:
            self.parts.train.clear()
            self.parts.test.clear()
        return 0
