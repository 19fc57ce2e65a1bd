"""All experience in memory as bytes, on the CPU or the GPU, drawn from by whole batches."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch
from data.episode import STEP_FIELDS, Episode
from data.segments import Segments


class Replay:
    """Steps of many episodes in flat tensors; a batch is one index computation and one gather a field.

    Steps are stored in the order in which they come. `_order` lists their places episode by episode, so that an
    unfinished episode can grow although others were stored behind it.
    """

    def __init__(self, device: torch.device, expected_steps: int = 0) -> None:
        """Room for `expected_steps` is claimed at once, so that growing never needs old and new room together."""
        self.device = device
        self._expected_steps = expected_steps
        self.episode_lengths = np.zeros(0, np.int64)
        self._order = np.zeros(0, np.int64)
        self._final_places = np.zeros(0, np.int64)
        self._steps: _Columns | None = None
        self._finals: _Columns | None = None

    @property
    def num_episodes(self) -> int:
        return len(self.episode_lengths)

    @property
    def num_steps(self) -> int:
        return len(self._order)

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Store a new episode, or (with its number) the later steps of an unfinished one; returns the number."""
        if self._steps is None:
            columns = [getattr(episode, name) for name in STEP_FIELDS]
            self._steps = _Columns(columns, self.device, self._expected_steps)
            self._finals = _Columns([episode.obs[:1]], self.device, 0)
            self._finals.append([torch.zeros_like(episode.obs[:1])])
        places = self._steps.append([getattr(episode, name) for name in STEP_FIELDS])
        if episode_id is None:
            episode_id = self.num_episodes
            self.episode_lengths = np.append(self.episode_lengths, 0)
            self._final_places = np.append(self._final_places, 0)
        stop = self.episode_lengths[: episode_id + 1].sum()
        self._order = np.insert(self._order, stop, places)
        self.episode_lengths[episode_id] += len(episode)
        if episode.is_over:
            # A foreign data set may lack the final observation: the last frame stands in.
            final_obs = episode.info.get("final_observation", episode.obs[-1])
            self._final_places[episode_id] = self._finals.append([final_obs[None]])[0]
        return episode_id

    def gather(self, segments: Segments) -> Batch:
        """The batch of the given segments, on the replay's device."""
        ids = segments.episode_ids
        firsts = (np.cumsum(self.episode_lengths) - self.episode_lengths)[ids, None]
        steps = segments.starts[:, None] + np.arange(segments.length)
        lengths = self.episode_lengths[ids, None]
        mask = (steps >= 0) & (steps < lengths)
        places = self._order[firsts + np.clip(steps, 0, lengths - 1)]
        mask_padding = self._send(mask)
        obs, *rest = self._steps.take(self._send(places))
        # Frames stay as they are on padding: `Batch.frames` makes them grey where a network reads them.
        act, rew, end, trunc = [values * _like(mask_padding, values) for values in rest]
        (final_obs,) = self._finals.take(self._send(self._final_places[ids]))
        return Batch(obs, act, rew, end, trunc, mask_padding, final_obs)

    def _send(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def segment_by_segment(episodes: Sequence[Episode] | Mapping[int, Episode], segments: Segments) -> Batch:
    """The plain twin of `Replay.gather`: the same batch, assembled one segment at a time."""
    rows = []
    for episode_id, start in zip(segments.episode_ids.tolist(), segments.starts.tolist(), strict=True):
        episode, stop = episodes[episode_id], start + segments.length
        before, behind = max(0, -start), max(0, stop - len(episode))
        inside = slice(max(0, start), min(len(episode), stop))
        row = {name: _pad(getattr(episode, name)[inside], before, behind) for name in STEP_FIELDS}
        row["mask_padding"] = _pad(torch.ones(inside.stop - inside.start, dtype=torch.bool), before, behind)
        row["final_obs"] = episode.info.get("final_observation", torch.zeros_like(episode.obs[0]))
        rows.append(row)
    return Batch(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


class _Columns:
    """Growing tensors of equal length."""

    def __init__(self, like: list[Tensor], device: torch.device, capacity: int) -> None:
        self.size = 0
        # Memory is claimed but not touched: an untouched page costs nothing on the CPU.
        self.columns = [torch.empty(capacity, *values.shape[1:], dtype=values.dtype, device=device) for values in like]

    def append(self, values: list[Tensor]) -> np.ndarray:
        """Store rows behind the others; returns their places."""
        start, stop = self.size, self.size + len(values[0])
        if stop > len(self.columns[0]):
            capacity = max(stop, len(self.columns[0]) * 3 // 2)
            for index, column in enumerate(self.columns):
                larger = torch.empty(capacity, *column.shape[1:], dtype=column.dtype, device=column.device)
                larger[:start] = column[:start]
                self.columns[index] = larger
        for column, added in zip(self.columns, values, strict=True):
            column[start:stop] = added
        self.size = stop
        return np.arange(start, stop)

    def take(self, places: Tensor) -> list[Tensor]:
        flat = places.reshape(-1)
        return [column.index_select(0, flat).view(*places.shape, *column.shape[1:]) for column in self.columns]


def _like(mask: Tensor, values: Tensor) -> Tensor:
    return mask.view(*mask.shape, *[1] * (values.ndim - mask.ndim)).to(values.dtype)


def _pad(values: Tensor, before: int, behind: int) -> Tensor:
    rest = values.shape[1:]
    return torch.cat((values.new_zeros(before, *rest), values, values.new_zeros(behind, *rest)))
