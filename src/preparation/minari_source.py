"""Episodes of Minari data sets: of this machine, of the Farama server, or in any folder."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from envs.robotics import INSTALL
from errors import UserError, near_matches, one_line
from files import require_plain_file

METADATA = "metadata.json"
LARGEST_METADATA = 1 << 26
"""Bytes. The bounds of every pixel are in it."""
EXAMPLE = "D4RL/kitchen/complete-v2"
NEAR_GOAL = 0.3
"""Distance from its goal within which a task counts as completed, as in `FrankaKitchen-v1`."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class MinariEpisode:
    """One episode of n steps, as Minari stores it: n + 1 observations and `infos`, n actions, rewards and flags.

    `seed` and `options` are those of the environment's reset; None and empty if they were not kept.
    """

    observations: Any
    actions: np.ndarray
    rew: Tensor
    end: Tensor
    trunc: Tensor
    infos: dict[str, Any]
    seed: int | None
    options: dict[str, Any]

    def __len__(self) -> int:
        return len(self.rew)

    def first_completions(self) -> dict[str, int]:
        """The step whose action first completed each task, for environments that name several goals."""
        if not isinstance(self.observations, dict):
            return {}
        wanted, seen = (self.observations.get(f"{name}_goal") for name in ("desired", "achieved"))
        if not isinstance(wanted, dict) or not isinstance(seen, dict):
            return {}
        is_near = {task: np.linalg.norm(seen[task] - wanted[task], axis=1) < NEAR_GOAL for task in wanted}
        # Observation t + 1 follows action t.
        return {task: int(near[1:].argmax()) for task, near in is_near.items() if near[1:].any()}


class MinariSource:
    """A Minari data set, whose folder `data` holds a file of episodes and `metadata.json`. It is opened when needed."""

    def __init__(self, data: Path) -> None:
        self.data = data

    @property
    def name(self) -> str:
        return str(self._metadata["dataset_id"])

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each episode; raises UserError if there are none."""
        lengths = self._reading(lambda: [int(each["total_steps"]) for each in self._episode_facts()])
        if not lengths:
            raise UserError(f"{self.name} holds no episodes.")
        return lengths

    @property
    def action_space(self) -> gymnasium.Space:
        return self._dataset.action_space

    @property
    def observation_space(self) -> gymnasium.Space:
        return self._dataset.observation_space

    @property
    def environment(self) -> EnvSpec | None:
        """The specification of the environment; None if it was not kept. Nothing that it names is imported."""
        return self._dataset.env_spec

    @property
    def modified(self) -> float:
        """When its files were last written, in seconds since 1970."""
        return max(path.stat().st_mtime for path in self.data.iterdir() if path.is_file())

    def load(self, index: int) -> MinariEpisode:
        """Read an episode; raises UserError if the file is damaged."""
        return self._reading(lambda: self._load(index))

    def _load(self, index: int) -> MinariEpisode:
        (stored,) = self._dataset.iterate_episodes([index])
        (facts,) = self._dataset.storage.get_episode_metadata([index])
        count = len(stored.rewards)
        if not all(len(each) == count + 1 for each in _leaves(stored.observations)) or len(stored.actions) != count:
            raise ValueError(f"episode {index} has {count} rewards, and its other entries do not fit")
        flags = [
            torch.from_numpy(np.asarray(each).astype(np.uint8)) for each in (stored.terminations, stored.truncations)
        ]
        rew = torch.from_numpy(np.asarray(stored.rewards, np.float32))
        infos, options = stored.infos or {}, facts.get("options") or {}
        return MinariEpisode(stored.observations, stored.actions, rew, *flags, infos, facts.get("seed"), dict(options))

    def _episode_facts(self) -> list[dict[str, Any]]:
        return list(self._dataset.storage.get_episode_metadata(range(self._dataset.total_episodes)))

    @functools.cached_property
    def _metadata(self) -> dict[str, Any]:
        return _read_metadata(self.data)

    @functools.cached_property
    def _dataset(self) -> Any:
        if not {"observation_space", "action_space", "dataset_id"} <= self._metadata.keys():
            # Minari would make the environment to ask it, and so run whatever the file names.
            raise UserError(f"{self.data / METADATA} cannot be used: it names no dataset_id, or not both spaces.")
        minari = import_minari()
        return self._reading(lambda: minari.MinariDataset(self.data))

    def _reading(self, read: Callable[[], Answer]) -> Answer:
        try:
            return read()
        except ImportError as error:
            raise UserError(f"{self.data} cannot be read: {one_line(error)}") from None
        # A damaged file can make any step fail.
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(f"{self.data} cannot be read as a Minari data set: {one_line(error)}") from None


def open_minari(word: str) -> MinariSource:
    """Open a data set by its folder or its id; one that is not on this machine is downloaded.

    Raises UserError if there is none.
    """
    folder = Path(word)
    if folder.is_dir():
        for data in (folder, folder / "data"):
            if (data / METADATA).is_file():
                return MinariSource(data)
        raise UserError(f"{folder} is no Minari data set: there is no {folder / 'data' / METADATA}.")
    minari = import_minari()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(word)
    # An id without a version fails inside Minari.
    except (ValueError, TypeError):
        raise UserError(f"{word} is neither a folder nor the id of a Minari data set, such as {EXAMPLE}.") from None
    data = minari.storage.get_dataset_path(word) / "data"
    if not _is_complete(data):
        _download(word)
    return MinariSource(data)


def import_minari() -> Any:
    """The library; raises UserError if it is not installed."""
    try:
        import minari
        import minari.dataset.minari_dataset
        import minari.storage
    except ImportError as error:
        raise UserError(f"Minari data sets need Minari ({one_line(error)}): {INSTALL}") from None
    return minari


def _download(name: str) -> None:
    from huggingface_hub.utils import logging

    minari = import_minari()
    # Otherwise each of its attempts prints two lines.
    logging.set_verbosity_error()
    print(f"{name} is not on this machine: asking the Farama server", flush=True)
    try:
        # Files of an earlier attempt that are whole are not fetched again.
        minari.download_dataset(name, force_download=True)
    # Proxies, servers and networks fail in more ways than there are errors for.
    except Exception as error:
        known = minari.list_local_datasets()
        raise UserError(
            f"{name} is not in {minari.storage.get_dataset_path()}, and cannot be downloaded ({one_line(error)}). "
            f"Connect to the network, name a folder, or set MINARI_DATASETS_PATH.{near_matches(name, known)}"
        ) from None


def _is_complete(data: Path) -> bool:
    """Whether both of a data set's files are there. A file appears when it has been downloaded to its end."""
    return (data / METADATA).is_file() and any(path.name != METADATA for path in data.iterdir())


def _read_metadata(data: Path) -> dict[str, Any]:
    path = data / METADATA
    require_plain_file(path)
    try:
        if path.stat().st_size > LARGEST_METADATA:
            raise ValueError("too large")
        metadata = json.loads(path.read_bytes())
        if not isinstance(metadata, dict):
            raise ValueError("not a mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}.") from None
    return metadata


def _leaves(observations: Any) -> Iterator[Any]:
    if isinstance(observations, dict | tuple):
        for each in observations.values() if isinstance(observations, dict) else observations:
            yield from _leaves(each)
    else:
        yield observations


def actions_of(episode: MinariEpisode, space: gymnasium.Space) -> Tensor:
    """The actions as `Episode` holds them: continuous float32 (t, n), numbered int64 (t), or multi-hot uint8 (t, n).

    Raises UserError for other kinds.
    """
    if isinstance(space, spaces.Box):
        return torch.from_numpy(np.asarray(episode.actions, np.float32).reshape(len(episode), -1))
    if isinstance(space, spaces.Discrete):
        return torch.from_numpy(np.asarray(episode.actions, np.int64) - int(space.start))
    if isinstance(space, spaces.MultiBinary):
        return torch.from_numpy(np.asarray(episode.actions, np.uint8).reshape(len(episode), -1))
    raise UserError(f"The actions are of the kind {space}: Box, Discrete or MultiBinary is needed.")
