"""The epoch loop: collect, train every component, evaluate, and be able to stop and go on anywhere in between."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from component import LossNotFinite
from errors import UserError
from files import load_tensors, save_tensors
from rl.collector import Collector
from run.folder import RunFolder
from run.interrupt import Interrupted, Interrupts
from run.log import Log, read_metrics
from run.media import draw_curves
from run.pace import Pace, in_words
from run.ranks import Ranks
from training.config import TrainerConfig
from training.evaluation import evaluate_component, film, load_replay
from training.parts import build_parts
from training.schedule import Schedule

SECONDS_BETWEEN_READINGS = 2.0


@dataclass
class Progress:
    """Where the run stands: the phase of the epoch it is in, whether that has begun, and what later phases need."""

    epoch: int = 1
    phase: str = "collect"
    phase_has_begun: bool = False
    first_collection: int | None = None
    best_return: float | None = None
    is_finished: bool = False


class Trainer:
    """Trains an agent in a run folder, from the beginning or from its last checkpoint."""

    def __init__(self, config: TrainerConfig, folder: RunFolder, ranks: Ranks, log_config: dict[str, Any]) -> None:
        self.config = config
        self.folder = folder
        self.ranks = ranks
        self.schedule = Schedule(config)
        self.progress = Progress()
        self.interrupts = Interrupts()
        self.interrupts.listen()
        self.parts = build_parts(config, folder, ranks)
        self.pace = Pace()
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
        if ranks.is_first:
            folder.remove_parts()
        position = self._restore() if folder.state.exists() else self._start_anew()
        self.log = Log(folder, config.wandb, log_config, position) if ranks.is_first else None
        self._last_checkpoint = time.monotonic()

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
            self._report_epoch()
            self.progress.is_finished = self.progress.epoch >= self.num_epochs
            self.progress.epoch += 1
            self.progress.phase, self.progress.phase_has_begun = names[0], False
            self._checkpoint()
        if self.log is not None:
            self.log.close()

    # Phases. Each returns at once when it is not due, and goes on where it stopped when it was interrupted.

    def _collect(self) -> None:
        collector = self.parts.collect_train
        epoch, progress = self.progress.epoch, self.progress
        if not self.schedule.collects or epoch > self.schedule.num_collecting_epochs(progress.first_collection):
            return
        if not progress.phase_has_begun:
            if not collector.has_begun:
                collector.begin()
            collector.forget_results()
            progress.phase_has_begun = True
        least, most = self.schedule.first_collection_bounds
        if epoch > 1:
            remaining = self.config.collect_train.num_steps_total - self.parts.train.dataset.num_steps
            least = most = min(self.config.collect_train.steps_per_epoch, remaining + collector.num_steps)

        def is_enough() -> bool:
            return collector.num_steps >= most or (collector.num_steps >= least and self._has_seen_rewards())

        self._step_until(is_enough, collector, "Collecting", most, lambda: collector.num_steps)
        collector.store_unfinished()
        self.parts.train.dataset.save_info()
        if epoch == 1:
            progress.first_collection = collector.num_steps
        self._log_episodes("train", collector, {"num_steps": float(self.parts.train.dataset.num_steps)})

    def _has_seen_rewards(self) -> bool:
        """Whether the rewards of all signs but the most common one are many enough to learn from."""
        counts = self.parts.train.dataset.counter_rew + self.parts.collect_train.unstored_rewards()
        wanted = self.config.collect_train.first_epoch.threshold_rew
        return self.progress.epoch > 1 or counts.total() - max(counts.values(), default=0) >= wanted

    def _play_untrained(self) -> None:
        if self.progress.epoch == 1 and self.config.evaluation.untrained:
            self._play_test_episodes("test", self.config.collect_test.num_episodes, epoch=0)

    def _evaluate_untrained(self) -> None:
        if self.progress.epoch == 1 and self.config.evaluation.untrained:
            self._evaluate_world_model(epoch=0)

    def _train(self, name: str) -> None:
        component = self.parts.components[name]
        total = component.updates_in_epoch(self.progress.epoch)
        if total == 0:
            return
        if name == "actor_critic" and component.num_updates_in_epoch == 0:
            self.parts.rollouts.begin_phase()
        done_before, started, last_reading = component.num_updates_in_epoch, time.monotonic(), time.monotonic()
        with self._bar(name, total, done_before) as bar:
            while component.num_updates_in_epoch < total:
                component.update()
                bar.update()
                if time.monotonic() - last_reading > SECONDS_BETWEEN_READINGS:
                    bar.set_postfix(loss=f"{component.read_loss():.4f}")
                    last_reading = time.monotonic()
                self._between_steps()
        metrics = component.finish_epoch()
        seconds = time.monotonic() - started
        self.pace.add(name, total - done_before, seconds)
        self._write_log(self.progress.epoch, f"{name}/train", {**metrics, "num_updates": component.num_updates})
        self._write_log(self.progress.epoch, f"time/{name}", {"updates_per_second": self.pace.rate(name)})

    def _play(self) -> None:
        if self.schedule.plays and self.schedule.is_evaluated(self.progress.epoch, self.num_epochs):
            self._play_test_episodes("test", self.config.collect_test.num_episodes, self.progress.epoch)
            mean_return = float(np.mean(self.parts.collect_test.returns))
            if self.progress.best_return is None or mean_return > self.progress.best_return:
                self.progress.best_return = mean_return
                self.parts.agent.save(self.folder.best_agent)

    def _evaluate(self) -> None:
        if self.schedule.is_evaluated(self.progress.epoch, self.num_epochs):
            self._evaluate_world_model(self.progress.epoch)

    def _save_agent(self) -> None:
        epoch, settings = self.progress.epoch, self.config.checkpointing
        if not self.schedule.is_saved(epoch, self.num_epochs):
            return
        self.parts.agent.save(self.folder.agent_version(epoch))
        versions = sorted(self.folder.agent_versions.glob("agent_epoch_*.pt"))
        if settings.num_to_keep is not None:
            for path in versions[: -settings.num_to_keep]:
                path.unlink()

    def _play_final(self) -> None:
        count = self.config.collect_test.num_final_episodes
        if self.schedule.plays and self.progress.epoch == self.num_epochs and count > 0:
            self._play_test_episodes("final", count, self.progress.epoch)
            draw_curves(read_metrics(self.folder.metrics), self.folder.media / "curves.png")

    def _play_test_episodes(self, name: str, count: int, epoch: int) -> None:
        collector = self.parts.collect_test
        if collector is None or count == 0:
            return
        if not self.progress.phase_has_begun:
            self.parts.test.clear()
            collector.begin(count)
            self.progress.phase_has_begun = True
        self._step_until(
            lambda: collector.is_complete, collector, "Playing test episodes", count, lambda: len(collector.returns)
        )
        self.parts.test.save_info()
        self._log_episodes(name, collector, {}, epoch)

    def _evaluate_world_model(self, epoch: int) -> None:
        parts, config = self.parts, self.config
        if parts.test.num_episodes > 0 and not config.run.model_free:
            replay, device = load_replay(parts.test), self.ranks.device
            lengths = {
                "denoiser": parts.agent.denoiser.num_steps_conditioning + 1 + config.denoiser.num_autoregressive_steps,
                "rew_end_model": config.rew_end_model.seq_length,
            }
            for name, length in lengths.items():
                metrics = evaluate_component(parts.components[name], replay, length, device)
                self._write_log(epoch, f"{name}/test", metrics)
            path = self.folder.media / f"real_and_imagined_epoch_{epoch:05d}.mp4"
            film(
                parts.agent,
                config.world_model_env.diffusion_sampler,
                replay,
                config.evaluation.video_steps,
                device,
                path,
            )
        draw_curves(read_metrics(self.folder.metrics), self.folder.media / "curves.png")

    # Going on and stopping.

    def _step_until(
        self, is_done: Callable[[], bool], collector: Collector, words: str, total: int, count: Callable[[], int]
    ) -> None:
        before, started = collector.num_steps, time.monotonic()
        with self._bar(words, total, count()) as bar:
            while not is_done():
                collector.step()
                bar.update(count() - bar.n)
                self._between_steps()
        self.pace.add(words, collector.num_steps - before, time.monotonic() - started)

    def _between_steps(self) -> None:
        """Write a checkpoint when one is due; raise Interrupted when the run was asked to stop."""
        age = time.monotonic() - self._last_checkpoint
        urgency = 2 if self.interrupts.received else 1 if age > 60 * self.config.checkpointing.minutes else 0
        if not self._acts_alone:
            urgency = self.ranks.largest(urgency)
        if urgency == 0:
            return
        if self._acts_alone:
            self.ranks.broadcast("stop" if urgency == 2 else "checkpoint")
        self._checkpoint()
        if urgency == 2:
            raise Interrupted(self.interrupts.received or 15)

    def _alone(self, work: Callable[[], None]) -> None:
        """Do work on the first rank; the others join its checkpoints and then take over what it collected."""
        if self.ranks.world_size == 1:
            work()
            self.parts.train.take_added()
            return
        if self.ranks.is_first:
            self._acts_alone = True
            work()
            self._acts_alone = False
            self.ranks.broadcast("done")
        else:
            while (order := self.ranks.broadcast(None)) != "done":
                self._checkpoint()
                if order == "stop":
                    raise Interrupted(self.interrupts.received or 15)
        added, progress = self.ranks.broadcast((self.parts.train.take_added(), asdict(self.progress)))
        if not self.ranks.is_first:
            self.parts.train.follow(added)
            self.progress = Progress(**progress)

    def _checkpoint(self) -> None:
        ranks = self.ranks.gather(self.parts.state_of_rank())
        if self.ranks.is_first:
            parts = self.parts
            for component in parts.components.values():
                component.check_finite()
            for dataset in (parts.train.dataset, parts.test):
                if self.schedule.plays:
                    dataset.save_info()
            self.log.sync()
            collectors = {"train": parts.collect_train, "test": parts.collect_test}
            state = {
                "progress": asdict(self.progress),
                "agent": parts.agent.state_dict(),
                "components": {name: component.state_dict() for name, component in parts.components.items()},
                "collectors": {name: each and each.state_dict() for name, each in collectors.items()},
                "datasets": {"train": parts.train.dataset.state_dict(), "test": parts.test.state_dict()},
                "ranks": ranks,
                "log_position": self.log.position,
            }
            save_tensors(state, self.folder.state)
        self.ranks.broadcast("saved")
        self._last_checkpoint = time.monotonic()

    def _start_anew(self) -> int:
        if self.schedule.plays and self.ranks.is_first:
            self.parts.train.clear()
            self.parts.test.clear()
        return 0

    def _restore(self) -> int:
        """Go back to the last checkpoint, and forget what was stored after it; returns the log's position."""
        state, parts = load_tensors(self.folder.state), self.parts
        try:
            self.progress = Progress(**state["progress"])
            parts.agent.load_state_dict(state["agent"])
            for name, component in parts.components.items():
                component.load_state_dict(state["components"][name])
            if self.schedule.plays:
                if self.ranks.is_first:
                    parts.train.dataset.rewind(state["datasets"]["train"])
                    parts.test.rewind(state["datasets"]["test"])
                    parts.collect_train.load_state_dict(state["collectors"]["train"])
                    parts.collect_test.load_state_dict(state["collectors"]["test"])
                else:
                    parts.train.dataset.load_state_dict(state["datasets"]["train"])
                parts.train.load()
            if len(state["ranks"]) == self.ranks.world_size:
                parts.load_state_of_rank(state["ranks"][self.ranks.rank])
        except (KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.folder.state} does not belong to this run's configuration ({reason}).") from error
        return int(state["log_position"])

    # Words and numbers for people.

    @contextmanager
    def _bar(self, words: str, total: int, initial: int) -> Iterator[tqdm]:
        label = f"Epoch {self.progress.epoch}/{self.num_epochs} {words}"
        hidden = None if self.ranks.is_first else True
        with tqdm(desc=label, total=total, initial=initial, leave=False, disable=hidden, dynamic_ncols=True) as bar:
            yield bar

    def _log_episodes(
        self, name: str, collector: Collector, others: dict[str, float], epoch: int | None = None
    ) -> None:
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
        self._write_log(self.progress.epoch if epoch is None else epoch, f"collection/{name}", metrics)

    def _write_log(self, epoch: int, prefix: str, metrics: dict[str, float]) -> None:
        if self.log is not None and metrics:
            self.log.write(epoch, {f"{prefix}/{name}": value for name, value in metrics.items()})

    def _report_epoch(self) -> None:
        """One line an epoch: what was learnt, and how long the rest will take."""
        if not self.ranks.is_first:
            return
        left = self.pace.seconds_for(self._remaining_units())
        epoch, latest = self.progress.epoch, {}
        for line in read_metrics(self.folder.metrics):
            if line["epoch"] == epoch:
                latest |= line
        shown = {
            "return": "collection/test/return_mean",
            "denoiser loss": "denoiser/train/loss_denoising",
            "reward and end loss": "rew_end_model/train/loss_total",
            "policy entropy": "actor_critic/train/entropy",
        }
        words = [f"{label} {latest[name]:.3f}" for label, name in shown.items() if name in latest]
        tqdm.write(f"Epoch {epoch}/{self.num_epochs}: {', '.join(words)}; about {in_words(left)} left")
        self._write_log(epoch, "time", {"seconds_left": left})

    def _remaining_units(self) -> dict[str, float]:
        epochs = range(self.progress.epoch + 1, self.num_epochs + 1)
        units = {
            name: sum(component.updates_in_epoch(epoch) for epoch in epochs)
            for name, component in self.parts.components.items()
        }
        if self.schedule.collects:
            collected = self.parts.train.dataset.num_steps
            units["Collecting"] = max(0, self.config.collect_train.num_steps_total - collected)
        if self.schedule.plays and self.parts.collect_test.lengths:
            test = self.config.collect_test
            evaluations = sum(self.schedule.is_evaluated(epoch, self.num_epochs) for epoch in epochs)
            episodes = evaluations * test.num_episodes + test.num_final_episodes
            units["Playing test episodes"] = episodes * float(np.mean(self.parts.collect_test.lengths))
        return units


__all__ = ["LossNotFinite", "Trainer"]
