"""A training run: its parts, and the loop over epochs and their phases."""

from collections.abc import Iterator
from typing import Any

import torch

from algorithms.base import Algorithm, Definition, Explorer, Phase, Surroundings, Update
from algorithms.config import CollectionConfig, EnvsConfig, TrainerConfig
from algorithms.size import check_size
from data import Actions, Spaces
from envs import EnvConfig, RealEnv, frame_shape, make_env, make_groups
from rl.collector import Collector
from run.compiled import compile_networks
from run.device import choose_precision
from run.folder import RunFolder
from run.interrupt import Interrupted
from run.log import Log
from run.random_state import seed_everything
from run.ranks import Ranks
from training.checkpoint import Saved, check_phase
from training.data import RunData, open_own_data, open_static_data, spaces_of
from training.evaluations import Evaluations
from training.progress import Progress
from training.report import Report
from training.runners import Runners
from training.schedule import Schedule
from training.stops import Stops

CPU = torch.device("cpu")


class Trainer:
    """Trains an agent in a run folder, from the beginning or from its last checkpoint.

    An epoch is a sequence of phases. The algorithm and the schedule choose them, and `Runners` runs them.
    """

    def __init__(
        self,
        definition: Definition,
        config: TrainerConfig,
        folder: RunFolder,
        ranks: Ranks,
        log_config: dict[str, Any],
    ) -> None:
        """Make every part of the run, and restore its last checkpoint.

        Raises UserError for an environment, data set or checkpoint that cannot be used.
        """
        config.check()
        self.folder = folder
        ranks.interrupts.listen()
        seed, collection, static = config.common.seed, config.collection, config.static_dataset
        plays, precision = static.path is None, choose_precision(config.training.precision, ranks.device)
        envs = _make_collection_envs(config.env, collection, seed) if plays and ranks.is_first else {}
        if plays:
            num_steps = collection.train.num_steps_total
            self.data = open_own_data(folder, config.env.train, num_steps, config.training.replay_device, ranks)
        else:
            self.data = open_static_data(static, config.env.train, config.training.replay_device, ranks)
        spaces = ranks.broadcast(_find_spaces(config.env.train, static.num_actions, self.data, envs))

        def make_training_env(num_envs: int, env_seed: int) -> RealEnv:
            return make_env(config.env.train, num_envs, env_seed, ranks.device)

        around = Surroundings(spaces, ranks, precision, seed, self.data.train, make_env=make_training_env)
        check_size(definition, config, around)
        # Networks are equal on every rank; from then on the ranks' random numbers differ.
        seed_everything(seed)
        self.algorithm = definition.make(config, around)
        seed_everything(seed + 1_000_003 * (1 + ranks.rank))
        networks = list(self.algorithm.agent.networks_to_compile)
        for each in self.algorithm.components.values():
            networks += getattr(each.module, "networks_to_compile", [])
        compile_networks(networks, config.training.compile, ranks.device, ranks.is_first)
        self.progress = Progress()
        collectors = _make_collectors(envs, collection, self.algorithm, self.data, precision, ranks.device)
        saved = Saved(folder, ranks, self.progress, self.algorithm, self.data, collectors)
        position = saved.restore()
        self._log = Log(folder, config.wandb, log_config, position) if ranks.is_first else None
        self.schedule = Schedule.of(config, learn=self.algorithm.phases)
        check_phase(self.progress, self.schedule, folder)
        # With more epochs than it had, a finished run continues.
        self.progress.is_finished = self.progress.is_finished and self.schedule.is_over(self.progress)
        self._report = Report(folder, self.schedule, definition.epoch_line, self._log)
        self._stops = Stops(ranks, config.checkpointing.minutes, lambda: saved.save(self._log))
        evaluations = Evaluations(
            self.algorithm,
            self.data,
            collectors.get("test"),
            config.evaluation,
            config.checkpointing,
            folder,
            ranks.device,
            self.progress,
            self.schedule,
            self._report,
            self._stops,
        )
        self._runners = Runners(
            self.algorithm,
            self.data,
            collectors.get("train"),
            collection.train.num_steps_total,
            config.training.log_every,
            evaluations,
            ranks,
            self.progress,
            self._report,
            self._stops,
        )

    def run(self) -> None:
        """Train to the end. After SIGINT, SIGTERM or SIGHUP, writes a checkpoint and raises Interrupted."""
        try:
            while not self.progress.is_finished:
                for phase in self._remaining_phases():
                    self._runners.run(phase)
                self._finish_epoch()
        except Interrupted:
            self._close_log()
            raise
        self._close_log()

    @property
    def position(self) -> str:
        """The current epoch, phase and step, in words."""
        progress, phases = self.progress, self.schedule.phases(self.progress)
        words = f"epoch {progress.epoch}, phase {progress.phase + 1} of {len(phases)}"
        for phase in phases[progress.phase : progress.phase + 1]:
            if isinstance(phase, Update):
                done = self.algorithm.components[phase.component].num_updates_in_phase
                words += f": {phase.component}, update {done + 1} of {phase.updates}"
            else:
                words += f": {type(phase).__name__}"
        return words

    def _remaining_phases(self) -> Iterator[Phase]:
        """The phases of this epoch that are not finished."""
        while self.progress.phase < len(phases := self.schedule.phases(self.progress)):
            yield phases[self.progress.phase]
            self.progress.next_phase()

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()

    def _finish_epoch(self) -> None:
        progress = self.progress
        self._report.epoch(progress)
        progress.next_epoch()
        progress.is_finished = self.schedule.is_over(progress)
        self._stops.checkpoint()


def _make_collection_envs(envs: EnvsConfig, collection: CollectionConfig, seed: int) -> dict[str, list[RealEnv]]:
    """Groups of training and test environments; their frames are stored, and therefore stay in main memory."""
    return {
        "train": make_groups(envs.train, collection.train.num_envs, collection.train.num_groups, seed, CPU),
        "test": make_groups(envs.test, collection.test.num_envs, 1, seed + 1, CPU),
    }


def _find_spaces(
    env: EnvConfig, num_actions: int | None, data: RunData, envs: dict[str, list[RealEnv]]
) -> Spaces | None:
    """The shapes of frames and actions; None on ranks without environments, which receive them from rank 0."""
    if not data.is_own:
        return spaces_of(data.train.dataset, env, num_actions)
    return Spaces(frame_shape(env), Actions("numbered", envs["train"][0].num_actions)) if envs else None


def _make_collectors(
    envs: dict[str, list[RealEnv]],
    collection: CollectionConfig,
    algorithm: Algorithm,
    data: RunData,
    precision: torch.dtype,
    device: torch.device,
) -> dict[str, Collector]:
    """A collector for each environment, which plays in it and stores its episodes."""
    stores = {"train": data.train.add_episode, "test": data.test.dataset.add_episode}
    train, test = collection.train, collection.test
    epsilon = algorithm.epsilon if isinstance(algorithm, Explorer) else train.epsilon
    explores = {"train": (epsilon, train.epsilon_zeta), "test": (test.epsilon, None)}
    return {
        name: Collector(groups, algorithm.policy, stores[name], explores[name][0], precision, device, explores[name][1])
        for name, groups in envs.items()
    }
