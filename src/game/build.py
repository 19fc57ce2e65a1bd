"""From a source to worlds that can be played."""

import sys
from dataclasses import dataclass, replace

import torch

from agent import Agent
from envs import EnvConfig, RealEnv, RecordedGameConfig, WorldModelEnv, action_layout, make_env
from errors import UserError
from game.keys import ActionKeys
from game.layout_keys import LayoutKeys
from game.play_env import PlayEnv, World
from game.recorder import Recorder
from game.source import Source
from game.spawns import Spawns
from game.starts import open_starts
from run.compiled import compile_networks
from run.device import cast_weights, choose_precision
from run.folder import RunFolder

NUM_STARTS_AT_ONCE = 4
HORIZON_OF_POLICIES = 50
LABELS = {"wm": "world model", "test": "real (test)", "train": "real (train)"}


@dataclass(frozen=True)
class PlayConfig:
    """Where to begin (`env`: wm, test or train; None for the first there is), who acts, and what is recorded.

    Without a `controller`, the policy acts, or where there is none a person. Without a `horizon`, 50 steps are imagined
    with a policy, and as many as the agent's own settings say without one.
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


def build_play_env(source: Source, config: PlayConfig, device: torch.device) -> PlayEnv:
    """Make the worlds; raises UserError when the one to begin in cannot be had."""
    precision = choose_precision(config.precision, device)
    agent = source.agent.to(device, memory_format=torch.channels_last)
    for network in agent.large_networks:
        cast_weights(network, precision)
    compile_networks(agent.large_networks, config.compile, device, is_first=True)
    controller = _choose_controller(config, agent)
    worlds = _real_worlds(source, config, device)
    starts = None
    if source.has_world_model or controller == "replay":
        starts = Spawns(source.spawn, device, config.seed) if source.spawn is not None else None
        starts = starts or open_starts(source, device, config.seed, precision)
    if source.has_world_model:
        settings = replace(source.world_model_env, num_batches_to_preload=NUM_STARTS_AT_ONCE)
        if config.horizon is not None or agent.actor_critic is not None:
            settings = replace(settings, horizon=config.horizon or HORIZON_OF_POLICIES)
        env = WorldModelEnv(agent.denoiser, agent.rew_end_model, starts, settings, 1, agent.upsampler)
        worlds.insert(0, World("wm", LABELS["wm"], env))
    worlds = _begin_with(config.env, worlds, source)
    recorder = Recorder(RunFolder(source.folder).dataset("")) if config.record else None
    return PlayEnv(
        worlds,
        agent.actor_critic,
        _make_keys(worlds, source),
        controller,
        starts,
        recorder,
        config.store_denoising_trajectory,
        precision,
        device,
        config.store_original_obs,
    )


def _choose_controller(config: PlayConfig, agent: Agent) -> str:
    if config.controller == "policy" and agent.actor_critic is None:
        raise UserError("--controller policy cannot be had here: this agent has none. There is human, replay, random.")
    return config.controller or ("human" if agent.actor_critic is None else "policy")


def _make_keys(worlds: list[World], source: Source) -> ActionKeys | LayoutKeys:
    layout = action_layout(source.env_test)
    if layout is not None:
        if layout.num_actions != source.num_actions:
            raise UserError(
                f"{source.folder}: its actions have {source.num_actions} entries, those of {source.env_test.id} "
                f"{layout.num_actions}. Set env.test.actions in its config/trainer.yaml."
            )
        return LayoutKeys(layout)
    real = next((world.env for world in worlds if isinstance(world.env, RealEnv)), None)
    return ActionKeys(real.action_names if real is not None else tuple(map(str, range(source.num_actions))))


def action_names(config: EnvConfig) -> tuple[str, ...]:
    """What a game calls its numbered actions; nothing where the game is not here."""
    if isinstance(config, RecordedGameConfig):
        return ()
    try:
        env = make_env(config, 1, 0, torch.device("cpu"))
    except UserError:
        return ()
    env.close()
    return env.action_names


def _real_worlds(source: Source, config: PlayConfig, device: torch.device) -> list[World]:
    """The real games; where the agent's was never one (data from elsewhere, a module that is not here), none."""
    worlds = []
    if isinstance(source.env_test, RecordedGameConfig):
        return worlds
    for name, env_config in (("test", source.env_test), ("train", source.env_train)):
        try:
            env = make_env(env_config, 1, config.seed, device)
        except UserError as error:
            print(f"warning: there is no real environment here. {error}", file=sys.stderr)
            return []
        if env.num_actions != source.num_actions:
            known = f"{env_config.id} has {env.num_actions} actions, the agent {source.num_actions}"
            print(f"warning: there is no real environment here. {known}.", file=sys.stderr)
            return []
        worlds.append(World(name, LABELS[name], env, _original(env_config, config)))
    return worlds


def _original(env_config: EnvConfig, config: PlayConfig) -> RealEnv | None:
    """The same games from the same seeds, in the size in which they draw themselves."""
    if not config.store_original_obs:
        return None
    return make_env(replace(env_config, size=None), 1, config.seed, torch.device("cpu"))


def _begin_with(name: str | None, worlds: list[World], source: Source) -> list[World]:
    names = [world.name for world in worlds]
    if not worlds:
        raise UserError(f"{source.folder} was trained without a world model, and its real environment is not here.")
    if name is None:
        return worlds
    if name not in names:
        raise UserError(f"--env {name} cannot be had here: there is {', '.join(names)}.")
    place = names.index(name)
    return worlds[place:] + worlds[:place]
