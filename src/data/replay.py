"""Experience in memory, with frames as uint8, on the CPU or the GPU. Batches are gathered whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch, to_device
from data.checks import STEP_FIELDS
from data.episode import Episode
from data.segments import Segments


class Replay:
    """Steps of many episodes in flat tensors; a batch takes one index computation, and one gather for each column.

    Steps are stored in the order in which they are added. `_order` lists their positions episode by episode, so that an
    unfinished episode can grow after others were stored. Besides the fields of an episode, a replay has the columns
    that an algorithm adds with `add_column` and fills with `write`.
    """

    def __init__(self, device: torch.device, expected_steps: int = 0) -> None:
        """Memory for `expected_steps` is allocated at once: growing needs the old and the new memory together."""
        self.device = device
        self._expected_steps = expected_steps
        self._extra: dict[str, Tensor] = {}
        self.clear()

    def clear(self) -> None:
        """Remove every episode; added columns remain, empty."""
        self.episode_lengths = np.zeros(0, np.int64)
        self._order = np.zeros(0, np.int64)
        self._final_places = np.zeros(0, np.int64)
        self._steps = _Columns(self.device, self._expected_steps)
        self._finals = _Columns(self.device, 0)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_lengths)

    @property
    def num_steps(self) -> int:
        return len(self._order)

    @property
    def is_over(self) -> np.ndarray:
        """Whether each episode is over, bool (num_episodes)."""
        return self._final_places > 0

    def add_column(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Add a tensor of this shape to every step; `Batch.extra` holds it.

        It is zero until it is written, or what `Episode.extra` has of this name.
        """
        self._extra[name] = torch.zeros(1, *shape, dtype=dtype)

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Store a new episode, or further steps of the unfinished episode `episode_id`; returns the episode's id."""
        if self.num_steps == 0:
            self._finals.append({"obs": torch.zeros_like(episode.obs[:1])})
        steps = {name: getattr(episode, name) for name in STEP_FIELDS}
        blank = {name: zero.expand(len(episode), *zero.shape[1:]) for name, zero in self._extra.items()}
        given = {name: episode.extra[name].to(zero.dtype) for name, zero in blank.items() if name in episode.extra}
        places = self._steps.append(steps | blank | given)
        if episode_id is None:
            episode_id = self.num_episodes
            self.episode_lengths = np.append(self.episode_lengths, 0)
            self._final_places = np.append(self._final_places, 0)
        stop = self.episode_lengths[: episode_id + 1].sum()
        self._order = np.insert(self._order, stop, places)
        self.episode_lengths[episode_id] += len(episode)
        if episode.is_over:
            # A data set made by others may lack the final observation: the last frame is used instead.
            final_obs = episode.info.get("final_observation", episode.obs[-1])
            self._final_places[episode_id] = self._finals.append({"obs": final_obs[None]})[0]
        return episode_id

    def gather(self, segments: Segments) -> Batch:
        """The batch of the given segments, on the replay's device."""
        places, mask = self._places(segments)
        mask_padding, places = self._send(mask), self._send(places)
        columns = {name: self._steps.take(name, places) for name in (*STEP_FIELDS, *self._extra)}
        final_obs = self._finals.take("obs", self._send(self._final_places[segments.episode_ids]))
        # Frames on padding are left unchanged here: `Batch.frames` makes them grey.
        kept = {
            name: values if name == "obs" else values * _like(mask_padding, values) for name, values in columns.items()
        }
        steps = {name: kept[name] for name in STEP_FIELDS}
        extra = {name: kept[name] for name in self._extra}
        return Batch(**steps, mask_padding=mask_padding, final_obs=final_obs, segments=segments, extra=extra)

    def write(self, name: str, segments: Segments, values: Tensor) -> None:
        """Write values (b, length, …) of an added column to the steps of the given segments, except on padding.

        If several segments contain the same step, it is unspecified which of their values is kept.
        """
        places, mask = self._places(segments)
        inside = np.flatnonzero(mask)
        rows = values.detach().to(self.device).flatten(0, 1).index_select(0, self._send(inside))
        self._steps.put(name, self._send(places.reshape(-1)[inside]), rows)

    def state_dict(self) -> dict[str, Any]:
        """The added columns, in the order of episodes and their steps."""
        order = self._send(self._order)
        return {name: self._steps.take(name, order) for name in self._extra} if self.num_steps else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the added columns; the replay must hold the same episodes as when they were saved."""
        order = self._send(self._order)
        for name, values in state.items():
            self._steps.put(name, order, values.to(self.device))

    def _places(self, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the steps of segments (b, length), and a mask of the steps inside their episode."""
        ids = segments.episode_ids
        firsts = (np.cumsum(self.episode_lengths) - self.episode_lengths)[ids, None]
        steps = segments.starts[:, None] + np.arange(segments.length)
        lengths = self.episode_lengths[ids, None]
        mask = (steps >= 0) & (steps < lengths)
        return self._order[firsts + np.clip(steps, 0, lengths - 1)], mask

    def _send(self, array: np.ndarray) -> Tensor:
        return to_device(torch.from_numpy(np.ascontiguousarray(array)), self.device)


def segment_by_segment(episodes: Sequence[Episode] | Mapping[int, Episode], segments: Segments) -> Batch:
    """A slow reference for `Replay.gather`: the same batch, assembled one segment at a time."""
    rows = []
    for episode_id, start in zip(segments.episode_ids.tolist(), segments.starts.tolist(), strict=True):
        episode, stop = episodes[episode_id], start + segments.length
        before, after = max(0, -start), max(0, stop - len(episode))
        inside = slice(max(0, start), min(len(episode), stop))
        row = {name: _pad(getattr(episode, name)[inside], before, after) for name in STEP_FIELDS}
        row["mask_padding"] = _pad(torch.ones(inside.stop - inside.start, dtype=torch.bool), before, after)
        row["final_obs"] = episode.info.get("final_observation", torch.zeros_like(episode.obs[0]))
        rows.append(row)
    return Batch(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}, segments=segments)


class _Columns:
    """Named tensors of equal length that grow as rows are appended."""

    def __init__(self, device: torch.device, capacity: int) -> None:
        self._device = device
        self._capacity = capacity
        self._size = 0
        self._columns: dict[str, Tensor] = {}

    def append(self, values: Mapping[str, Tensor]) -> np.ndarray:
        """Append rows, with the same columns each time; returns their positions."""
        start, stop = self._size, self._size + len(next(iter(values.values())))
        if stop > self._capacity:
            self._capacity = max(stop, self._capacity * 3 // 2)
        for name, added in values.items():
            column = self._columns.get(name)
            if column is None or len(column) < self._capacity:
                # `torch.empty` leaves the memory untouched: on the CPU, an untouched page costs nothing.
                larger = torch.empty(self._capacity, *added.shape[1:], dtype=added.dtype, device=self._device)
                if column is not None:
                    larger[:start] = column[:start]
                column = self._columns[name] = larger
            column[start:stop] = added
        self._size = stop
        return np.arange(start, stop)

    def take(self, name: str, places: Tensor) -> Tensor:
        column = self._columns[name]
        return column.index_select(0, places.reshape(-1)).view(*places.shape, *column.shape[1:])

    def put(self, name: str, places: Tensor, rows: Tensor) -> None:
        column = self._columns[name]
        column.index_copy_(0, places, rows.to(column.dtype))


def _like(mask: Tensor, values: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (values.ndim - mask.ndim)).to(values.dtype)


def _pad(values: Tensor, before: int, after: int) -> Tensor:
    rest = values.shape[1:]
    return torch.cat((values.new_zeros(before, *rest), values, values.new_zeros(after, *rest)))
