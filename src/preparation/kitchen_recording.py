"""Minari data sets of scripted episodes in the simulated kitchen, for people without a network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from envs.kitchen import LONGEST, make_kitchen
from envs.kitchen_motions import TASKS, ScriptedMotion
from errors import UserError
from preparation.minari_source import METADATA, import_minari

ATTEMPTS = 10
NAME = "kitchen/scripted-v0"


@dataclass(frozen=True)
class ScriptedEpisode:
    """One episode of n steps. `completed`: the tasks that were completed in it, in their order."""

    seed: int
    observations: dict[str, Any]
    actions: np.ndarray
    rewards: np.ndarray
    completed: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.actions)


def record_data_set(out: Path, num_episodes: int, seed: int) -> list[tuple[str, ScriptedEpisode]]:
    """Record episodes of each motion in turn, as a Minari data set in `out`; returns the motions and their episodes.

    The folder appears when all are recorded. Raises UserError if it exists.
    """
    if out.exists():
        raise UserError(f"{out} exists: remove it, or name another folder.")
    env = make_kitchen()
    recorded = []
    for index in tqdm(range(num_episodes), "Recording episodes"):
        name = list(TASKS)[index % len(TASKS)]
        recorded.append((name, record_episode(env, name, (seed, index))))
    _write(out, env, [episode for _, episode in recorded])
    env.close()
    return recorded


def record_episode(env: gymnasium.Env, name: str, key: tuple[int, ...]) -> ScriptedEpisode:
    """Record a motion that completes exactly its tasks; other attempts are thrown away. `key` decides what is drawn."""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((*key, attempt))
        episode = _attempt(env, ScriptedMotion(name, rng), int(rng.integers(1 << 31)))
        if set(episode.completed) == set(TASKS[name]):
            return episode
    raise RuntimeError(f"the motion {name} failed {ATTEMPTS} times")


def _attempt(env: gymnasium.Env, motion: ScriptedMotion, seed: int) -> ScriptedEpisode:
    obs, _ = env.reset(seed=seed)
    observations, actions, rewards = [_copied(obs)], [], []
    info: dict[str, Any] = {"episode_task_completions": []}
    while len(actions) < LONGEST:
        act = motion.act(env)
        if motion.is_over:
            break
        obs, reward, _, _, info = env.step(act)
        observations.append(_copied(obs))
        actions.append(act)
        rewards.append(reward)
    completed = tuple(info["episode_task_completions"])
    return ScriptedEpisode(seed, _stacked(observations), np.stack(actions), np.array(rewards), completed)


def _write(out: Path, env: gymnasium.Env, episodes: list[ScriptedEpisode]) -> None:
    import_minari()
    from minari import __version__
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    beside = out.with_name(f".{out.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    storage = MinariStorage.new(beside / "data", env.observation_space, env.action_space, env.spec)
    for episode in episodes:
        ends = np.zeros(len(episode), bool)
        cut = np.arange(len(episode)) == len(episode) - 1
        buffer = EpisodeBuffer(
            None, episode.seed, None, episode.observations, episode.actions, episode.rewards, ends, cut
        )
        storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": NAME, "minari_version": __version__, "algorithm_name": "scripted motions"})
    if not (beside / "data" / METADATA).is_file():
        raise RuntimeError(f"Minari wrote no {METADATA}")
    beside.rename(out)


def _copied(obs: dict[str, Any]) -> dict[str, Any]:
    """A copy: the environment hands out its own arrays."""
    return {name: _copied(each) if isinstance(each, dict) else np.array(each) for name, each in obs.items()}


def _stacked(observations: list[dict[str, Any]]) -> dict[str, Any]:
    first = observations[0]
    return {
        name: _stacked([each[name] for each in observations])
        if isinstance(first[name], dict)
        else np.stack([each[name] for each in observations])
        for name in first
    }
