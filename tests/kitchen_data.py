"""Small Minari data sets for tests, and what tests in the simulated kitchen need of the machine."""

import ctypes.util
import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest

LIBRARIES = {"osmesa": "OSMesa", "egl": "EGL"}
"""Ways of drawing without a display, and their libraries."""
STEPS = 4


def require_robotics() -> None:
    """Skip the test where the robotics requirements are not installed."""
    for name in ("minari", "mujoco", "gymnasium_robotics"):
        pytest.importorskip(name, reason=f"{name} is not installed (requirements-robotics.txt)", exc_type=ImportError)


def require_opengl() -> None:
    """Skip the test where MuJoCo cannot draw; otherwise it draws without a display."""
    here = [name for name, library in LIBRARIES.items() if ctypes.util.find_library(library)]
    if not here:
        pytest.skip("no OpenGL to draw with (Debian: apt install libosmesa6)")
    os.environ.setdefault("MUJOCO_GL", here[0])
    require_robotics()


def write_part(reference_dir: Path, out: Path, episodes: int = 2, steps: int = STEPS) -> Path:
    """A Minari data set of the first steps of the recorded kitchen episodes."""
    from minari import MinariDataset
    from minari.data_collector.episode_buffer import EpisodeBuffer

    whole = MinariDataset(reference_dir / "minari_kitchen" / "kitchen" / "scripted-v0" / "data")
    seeds = [facts["seed"] for facts in whole.storage.get_episode_metadata(range(episodes))]
    buffers = []
    for episode, seed in zip(whole.iterate_episodes(range(episodes)), seeds, strict=True):
        cut = np.arange(steps) == steps - 1
        columns = (episode.actions[:steps], episode.rewards[:steps], np.zeros(steps, bool), cut)
        buffers.append(EpisodeBuffer(None, seed, None, _first(episode.observations, steps + 1), *columns))
    return _write(out, buffers, whole.observation_space, whole.action_space, whole.spec.env_spec)


def write_images(out: Path, lengths: list[int], shape: tuple[int, ...] = (32, 40, 3)) -> Path:
    """A Minari data set of random pictures with numbered actions, which start at 3."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    rng = np.random.default_rng(0)
    buffers = []
    for length in lengths:
        pictures = rng.integers(0, 256, (length + 1, *shape), dtype=np.uint8)
        ends = np.arange(length) == length - 1
        actions = rng.integers(3, 8, length)
        buffers.append(
            EpisodeBuffer(None, None, None, pictures, actions, rng.random(length), ends, np.zeros(length, bool))
        )
    space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
    return _write(out, buffers, space, gymnasium.spaces.Discrete(5, start=3), None)


def _write(out: Path, buffers: list, obs: gymnasium.Space, act: gymnasium.Space, spec: object) -> Path:
    from minari import __version__
    from minari.dataset.minari_storage import MinariStorage

    out.mkdir(parents=True)
    storage = MinariStorage.new(out / "data", obs, act, spec, jpeg_encoding=False)
    for buffer in buffers:
        storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "test/part-v0", "minari_version": __version__})
    return out


def _first(values: object, count: int) -> object:
    return {name: _first(each, count) for name, each in values.items()} if isinstance(values, dict) else values[:count]
