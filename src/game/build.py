"""From a source to worlds that can be played."""

import sys
from dataclasses import dataclass, replace

import torch

from algorithms.base import Algorithm, World
from data import ActionLayout, Batch, Spaces
from envs import EnvConfig, RealEnv, RecordedGameConfig, action_layout, make_env
from envs.trust import check_env
from errors import UserError
from game.idle_keys import IdleKeys
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.live_env import LiveEnv
from game.moment import Place
from game.play_env import PlayEnv
from game.prediction_env import PredictionEnv
from game.predictions import open_predictions
from game.predictor import Predictor
from game.recorder import Recorder
from game.spawns import SpawnStarts
from game.starts import NUM_COLLECTED_STEPS, StartSource, open_starts
from game.wishes import Wishes
from rl.policy import Policy
from run.device import choose_precision
from run.folder import RunFolder
from trained.opening import find_spaces, open_agent
from trained.source import Source

Player = PlayEnv | PredictionEnv | LiveEnv
HORIZON_OF_POLICIES = 50
LABELS = {"wm": "world model", "test": "real (test)", "train": "real (train)"}


@dataclass(frozen=True)
class PlayConfig:
    """The world to start in (`env`: wm, test or train), who acts, and what is recorded.

    `env` is data or live for predictions beside recorded episodes, or beside the simulated kitchen. None: data for
    models that look several recorded steps ahead, as no action of a person leads there, else the first world there is.
    Without a `controller`, the policy acts, and a person where there is no policy. Without a `horizon`, an agent with a
    policy imagines 50 steps, and one without a policy as many as its settings say. Where
    there is no data, the policy plays `initial_steps` real steps to start imagination from.
    """

    env: str | None = None
    controller: str | None = None
    horizon: int | None = None
    seed: int = 0
    record: bool = False
    store_denoising_trajectory: bool = False
    store_original_obs: bool = False
    precision: str = "auto"
    compile: bool = False
    initial_steps: int = NUM_COLLECTED_STEPS


@dataclass(frozen=True)
class Stage:
    """An agent with its weights, opened once. Every player gets worlds of its own, and shares the networks."""

    source: Source
    config: PlayConfig
    device: torch.device
    precision: torch.dtype
    spaces: Spaces
    algorithm: Algorithm
    controller: str
    starts: StartSource | None

    def player(self, number: int = 0) -> Player:
        """Worlds, memory and recorder of the `number`-th player.

        Raises UserError when the world to start in does not exist.
        """
        config = replace(self.config, seed=self.config.seed + number)
        policy, world = self.algorithm.policy, self.algorithm.world(1)
        looks_ahead = self.source.config.static_dataset.stride > 1
        if config.env in ("data", "live") or (config.env is None and looks_ahead):
            return open_predictions(
                config.env or "data", self.source, self.spaces, self._predictor(world, config.seed), config.seed
            )
        is_needed = world is None or config.env in ("test", "train")
        places = _real_places(self.source, self.spaces, config, self.device, is_needed)
        if world is not None:
            _set_horizon(world, config, policy)
            places.insert(0, Place("wm", LABELS["wm"], world))
        places = _put_first(config.env, places, self.source)
        return PlayEnv(
            places,
            policy,
            _make_keys(places, self.spaces, self.source),
            self.controller,
            self.starts,
            Recorder(RunFolder(self.source.folder).dataset("")) if config.record else None,
            Wishes(config.store_denoising_trajectory, config.store_original_obs),
            self.precision,
            self.device,
            config.seed,
        )

    def _predictor(self, world: World | None, seed: int) -> Predictor:
        if world is None:
            raise UserError(f"{self.source.folder} was trained without a world model: there is nothing that predicts.")
        if self.config.record:
            raise UserError("-r records what is played, and predictions are not played: use --env wm.")
        return Predictor(world, self.device, self.precision, seed)


def open_stage(source: Source, config: PlayConfig, device: torch.device, is_for_people: bool = True) -> Stage:
    """Open the agent, and the data that imagination starts from.

    With `is_for_people=False` no person can play, and recorded actions are replayed instead.
    """
    precision, spaces = choose_precision(config.precision, device), find_spaces(source)

    def draw_starts(count: int, length: int, with_full_frames: bool) -> Batch:
        return starts.draw(count, length, with_full_frames)

    algorithm = open_agent(source, spaces, device, precision, config.seed, draw_starts, config.compile)
    policy, world = algorithm.policy, algorithm.world(1)
    controller = _choose_controller(config, policy, is_for_people)
    starts: StartSource | None = None
    if config.env != "live" and (world is not None or controller == "replay"):
        length = 1 if world is None else world.num_context_steps
        starts = _open_starts(source, length, policy, config, device, precision)
    return Stage(source, config, device, precision, spaces, algorithm, controller, starts)


def build_play_env(source: Source, config: PlayConfig, device: torch.device, is_for_people: bool = True) -> Player:
    """One player on a stage of its own; raises UserError when the world to start in does not exist."""
    return open_stage(source, config, device, is_for_people).player()


def _open_starts(
    source: Source,
    length: int,
    policy: Policy | None,
    config: PlayConfig,
    device: torch.device,
    precision: torch.dtype,
) -> StartSource:
    if source.spawn is not None:
        return SpawnStarts(source.spawn, device)
    return open_starts(source, length, policy, device, config.seed, precision, config.initial_steps)


def _set_horizon(world: World, config: PlayConfig, policy: Policy | None) -> None:
    if config.horizon is not None or policy is not None:
        world.horizon = config.horizon or HORIZON_OF_POLICIES


def _choose_controller(config: PlayConfig, policy: Policy | None, is_for_people: bool) -> str:
    if config.controller == "policy" and policy is None:
        raise UserError("--controller policy is not possible: this agent has no policy. Use human, replay or random.")
    without_policy = "human" if is_for_people else "replay"
    return config.controller or (without_policy if policy is None else "policy")


def _make_keys(places: list[Place], spaces: Spaces, source: Source) -> ActionKeys | LayoutKeys | IdleKeys:
    game, actions = source.config.env.test, spaces.actions
    layout: ActionLayout | None = action_layout(game)
    if layout is not None:
        if layout.num_actions != actions.size:
            raise UserError(
                f"{source.folder}: the agent's actions have {actions.size} entries, but {game.id} has "
                f"{layout.num_actions}. Set env.test.actions in its config/trainer.yaml."
            )
        return LayoutKeys(layout)
    if actions.kind != "numbered":
        return IdleKeys(actions)
    real = next((place.env for place in places if isinstance(place.env, RealEnv)), None)
    return ActionKeys(real.action_names if real is not None else tuple(map(str, range(actions.size))))


def action_names(config: EnvConfig, trusts: bool = False) -> tuple[str, ...]:
    """The names of a game's numbered actions; empty where the game is not installed, or not trusted."""
    if isinstance(config, RecordedGameConfig):
        return ()
    try:
        check_env(config, trusts)
        env = make_env(config, 1, 0, torch.device("cpu"))
    except UserError:
        return ()
    env.close()
    return env.action_names


def _real_places(
    source: Source, spaces: Spaces, config: PlayConfig, device: torch.device, is_needed: bool
) -> list[Place]:
    """The real games; none for an agent of recordings only, or of a game that is not installed, or not trusted.

    Raises UserError for the last two if they are needed.
    """
    places, envs = [], source.config.env
    if isinstance(envs.test, RecordedGameConfig):
        return places
    for name, env_config in (("test", envs.test), ("train", envs.train)):
        try:
            check_env(env_config, source.trusts)
            env = make_env(env_config, 1, config.seed, device)
        except UserError as error:
            if is_needed:
                raise
            print(f"warning: there is no real environment here. {error}", file=sys.stderr)
            return []
        if env.num_actions != spaces.actions.size:
            known = f"{env_config.id} has {env.num_actions} actions, the agent {spaces.actions.size}"
            print(f"warning: there is no real environment here. {known}.", file=sys.stderr)
            return []
        places.append(Place(name, LABELS[name], env, _original(env_config, config)))
    return places


def _original(env_config: EnvConfig, config: PlayConfig) -> RealEnv | None:
    """The same games from the same seeds, with frames in their own size."""
    if not config.store_original_obs:
        return None
    return make_env(replace(env_config, size=None), 1, config.seed, torch.device("cpu"))


def _put_first(name: str | None, places: list[Place], source: Source) -> list[Place]:
    names = [place.name for place in places]
    if not places:
        raise UserError(
            f"{source.folder} was trained without a world model, and its real environment is not installed."
        )
    if name is None:
        return places
    if name not in names:
        raise UserError(f"--env {name} does not exist for this run: it has {', '.join(names)}.")
    index = names.index(name)
    return places[index:] + places[:index]
