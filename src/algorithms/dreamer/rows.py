"""Rows: the observations of each environment, one after another, as windows drawn from a replay of episodes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Replay, Segments, to_device
from models.dreamer import Rows

DETER, INDEX = "deter", "index"
"""Replay columns: the state after each row, first as the agent had it when it acted, then as the last update had it."""


@dataclass(frozen=True)
class Places:
    """Where the rows of windows are: their episodes, and their steps in them, int64 (b, length) each.

    The last row of an episode of n steps, its final observation, is at step n.
    """

    episode_ids: np.ndarray
    steps: np.ndarray

    def segments(self, first: int, length: int) -> Segments:
        """For every row a segment of `length` steps, which begins `first` steps after the row's own."""
        return Segments(self.episode_ids.reshape(-1), self.steps.reshape(-1) + first, length)


@dataclass(frozen=True)
class DrawnRows(Rows):
    """Rows from a replay."""

    places: Places


class Windows:
    """Draws windows of `length` consecutive rows of one environment, also across the ends of episodes.

    Each time that an environment has `length` more rows, these wait as a window in a queue, which is drawn from first:
    so every row is trained on soon. All other draws are uniform. Episodes are followed by the next one of the same
    environment; of several environments that begin one at the same time, it does not matter which is whose.
    """

    def __init__(
        self,
        replay: Replay,
        num_envs: int,
        length: int,
        generator: np.random.Generator,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """The ranks share the windows of the queue."""
        self.replay = replay
        self.length = length
        self._generator = generator
        self._rank, self._world_size = rank, world_size
        self._episodes: list[list[int]] = [[] for _ in range(num_envs)]
        self._num_assigned = 0
        self._num_queued = [0] * num_envs

    @property
    def num_windows(self) -> int:
        """The number of windows that can be drawn."""
        return sum(self._num_starts(self._row_ends()))

    def queued(self) -> list[tuple[int, int]]:
        """Environment and first row of each window that waits in the queue, in order."""
        return self._queued(self._row_ends())

    def draw(self, count: int) -> Places:
        """Draw windows (count, length): those in the queue first."""
        row_ends = self._row_ends()
        chosen = self._queued(row_ends)[:count]
        for env, start in chosen:
            self._num_queued[env] = (start - 1) // self.length + 1
        ends = np.cumsum(self._num_starts(row_ends))
        drawn = self._generator.integers(ends[-1], size=count - len(chosen))
        envs = np.searchsorted(ends, drawn, side="right")
        starts = drawn - np.concatenate(([0], ends))[envs]
        chosen += zip(envs.tolist(), starts.tolist(), strict=True)
        places = [self._locate(env, start + np.arange(self.length), row_ends[env]) for env, start in chosen]
        return Places(*[np.stack(parts) for parts in zip(*places, strict=True)])

    def gather(self, places: Places, device: torch.device) -> DrawnRows:
        """The rows of windows, on a device."""
        # Each row needs its own step, and the step before, which its reward came from.
        b, length = places.steps.shape
        batch = self.replay.gather(places.segments(-1, 2)).to(device)
        is_first, is_last = ~batch.mask_padding.unflatten(0, (b, length)).movedim(-1, 0)
        ends, rew = batch.end[:, 0].unflatten(0, (b, length)).bool(), batch.rew[:, 0].unflatten(0, (b, length))
        at_end = is_last.flatten()[:, None, None, None]
        obs = torch.where(at_end, batch.final_obs, batch.obs[:, 1]).unflatten(0, (b, length))
        # A row before a first row is the last of its episode, even if the episode was abandoned.
        is_last[:, :-1] |= is_first[:, 1:]
        context = {name: batch.extra[name][::length, 1] for name in (DETER, INDEX)}
        act = batch.act[:, 1].unflatten(0, (b, length))
        return DrawnRows(obs, act, rew, is_first, is_last, ends & is_last, **context, places=places)

    def write(self, places: Places, deter: Tensor, index: Tensor) -> None:
        """Write the states (b, length - 1, …) of all rows of windows but the first back to the replay.

        If two windows share a row, the later one counts. Final observations keep no state: a first row follows.
        """
        rows = Places(places.episode_ids[:, 1:], places.steps[:, 1:])
        keys = rows.episode_ids.reshape(-1) * (1 << 32) + rows.steps.reshape(-1)
        _, from_behind = np.unique(keys[::-1], return_index=True)
        kept = len(keys) - 1 - from_behind
        segments = Segments(rows.episode_ids.reshape(-1)[kept], rows.steps.reshape(-1)[kept], 1)
        chosen = to_device(torch.from_numpy(kept), deter.device)
        for name, values in ((DETER, deter), (INDEX, index)):
            self.replay.write(name, segments, values.flatten(0, 1).index_select(0, chosen)[:, None])

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.bit_generator.state, "num_queued": list(self._num_queued)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state["generator"]
        self._num_queued = list(state["num_queued"])

    def _row_ends(self) -> list[np.ndarray]:
        """For each environment, the number of its rows after each of its episodes."""
        lengths, is_over = self.replay.episode_lengths, self.replay.is_over
        self._assign(lengths, is_over)
        return [np.cumsum(lengths[each] + is_over[each]) if each else np.zeros(1, np.int64) for each in self._episodes]

    def _assign(self, lengths: np.ndarray, is_over: np.ndarray) -> None:
        """Give each new episode to the environment that has been waiting for one since the fewest steps."""
        totals = [int(lengths[each].sum()) for each in self._episodes]
        for episode in range(self._num_assigned, len(lengths)):
            waiting = [env for env, each in enumerate(self._episodes) if not each or is_over[each[-1]]]
            env = min(waiting, key=lambda env: totals[env])
            self._episodes[env].append(episode)
            totals[env] += int(lengths[episode])
        self._num_assigned = len(lengths)

    def _queued(self, row_ends: list[np.ndarray]) -> list[tuple[int, int]]:
        waiting = [
            (number, env)
            for env, ends in enumerate(row_ends)
            for number in range(self._num_queued[env], (int(ends[-1]) - 1) // self.length)
            if (number + env) % self._world_size == self._rank
        ]
        return [(env, 1 + number * self.length) for number, env in sorted(waiting)]

    def _num_starts(self, row_ends: list[np.ndarray]) -> list[int]:
        """For each environment, the number of windows."""
        return [max(0, int(ends[-1]) - self.length + 1) for ends in row_ends]

    def _locate(self, env: int, rows: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Episodes and steps of rows, counted from the environment's first."""
        number = np.searchsorted(ends, rows, side="right")
        episodes = np.array(self._episodes[env])
        return episodes[number], rows - np.concatenate(([0], ends))[number]
