"""Segments of recorded episodes that worlds are measured on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from data import Batch, Episode, Segments, segment_by_segment
from errors import UserError
from evaluation.world_metrics import returns_to_go


@dataclass(frozen=True)
class Recordings:
    """Recorded episodes: `origin` names them, `lengths` are their numbers of steps, `load` returns one of them.

    `are_own`: the agent that is measured has played them, so that its values are estimates of their returns.
    """

    origin: str
    lengths: np.ndarray
    load: Callable[[int], Episode]
    are_own: bool = False


@dataclass(frozen=True)
class Recorded:
    """s segments of recorded episodes: n steps that imagination starts from, and t steps that follow.

    `batch` has the n + t frames; among them is the frame after an episode's last step. `mask` bool (s, t): whether the
    step was recorded; steps after the end of an episode are not. `rew` float32 and `end` bool (s, t) answer the actions
    that lead to the t frames. `returns` float64 (s, t): the discounted return from these frames on, NaN where it is
    unknown or nothing follows.
    """

    segments: Segments
    batch: Batch
    num_context_steps: int
    mask: Tensor
    returns: np.ndarray

    @property
    def horizon(self) -> int:
        return self.mask.size(1)

    @property
    def frames(self) -> Tensor:
        """The t frames to imagine, uint8 (s, t, c, h, w)."""
        return self.batch.obs[:, self.num_context_steps :]

    @property
    def acts(self) -> Tensor:
        """The actions that lead to them, (s, t), or vectors (s, t, num_actions)."""
        return self.batch.act[:, self.num_context_steps - 1 : -1]

    @property
    def rew(self) -> Tensor:
        return self.batch.rew[:, self.num_context_steps - 1 : -1]

    @property
    def end(self) -> Tensor:
        return self.batch.end[:, self.num_context_steps - 1 : -1].bool()


def record(
    recordings: Recordings, num_context_steps: int, horizon: int, count: int, seed: int, gamma: float | None
) -> Recorded:
    """Choose `count` segments, or as many as there are, and read them; `gamma=None` leaves all returns unknown.

    Raises UserError if no episode is long enough.
    """
    segments = choose_segments(recordings, num_context_steps, horizon, count, seed)
    episodes = {int(each): recordings.load(int(each)) for each in np.unique(segments.episode_ids)}
    batch = segment_by_segment(episodes, segments)
    # The number of steps from the segment's start to the episode's end: there, the final frame belongs.
    room = np.array([len(episodes[int(each)]) for each in segments.episode_ids]) - segments.starts
    has_final = np.array(["final_observation" in episodes[int(each)].info for each in segments.episode_ids])
    frames = batch.obs.clone()
    for row in np.flatnonzero(has_final & (room < segments.length)):
        frames[row, room[row]] = batch.final_obs[row]
    places = np.arange(num_context_steps, segments.length)
    mask = places < (room + has_final)[:, None]
    returns = np.full(mask.shape, np.nan)
    if gamma is not None:
        known = {
            each: returns_to_go(episode.rew.numpy(), bool(episode.end[-1]), gamma) for each, episode in episodes.items()
        }
        for row, (episode_id, start) in enumerate(zip(segments.episode_ids, segments.starts, strict=True)):
            inside = known[int(episode_id)][start + num_context_steps : start + segments.length]
            returns[row, : len(inside)] = inside
    found = Recorded(segments, replace(batch, obs=frames), num_context_steps, torch.from_numpy(mask), returns)
    return _rows(found, np.flatnonzero(mask.any(axis=1)))


def choose_segments(recordings: Recordings, num_context_steps: int, horizon: int, count: int, seed: int) -> Segments:
    """Different segments, drawn uniformly over all steps that a segment can imagine first.

    Every step has a random rank, which depends on the recordings and the seed only: worlds that start from different
    numbers of steps are measured on the same segments, as far as their episodes have room before them. Segments may
    extend beyond their episode. Raises UserError if no episode has `horizon` steps to imagine.
    """
    lengths, origin = recordings.lengths, recordings.origin
    longest = int(lengths.max()) - num_context_steps + 1
    if longest < 1:
        raise UserError(f"No episode of {origin} has the {num_context_steps} steps that imagination starts from.")
    if longest < horizon:
        raise UserError(
            f"--horizon {horizon} is longer than every episode of {origin}: the longest has {lengths.max()} steps, "
            f"and imagination starts from {num_context_steps}. Use --horizon {longest} or less, or other data."
        )
    firsts = np.cumsum(lengths) - lengths
    ids = np.repeat(np.arange(len(lengths)), lengths)
    steps = np.arange(lengths.sum()) - firsts[ids]
    order = np.random.default_rng(seed).permutation(len(ids))
    order = order[steps[order] >= num_context_steps - 1][:count]
    return Segments(ids[order], steps[order] - num_context_steps + 1, num_context_steps + horizon)


def other_actions(acts: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """For each segment the actions of another one, drawn among those whose actions differ from its own.

    `acts` (s, t) or (s, t, num_actions), `mask` bool (s, t): the steps that are recorded. Where the other segment ends
    early, its actions are repeated from the first on. Returns actions as `acts`, and bool (s): whether there is another
    segment with other actions; where there is none, the actions are the segment's own.
    """
    rng, lengths = np.random.default_rng(seed), mask.sum(dim=1)
    places = torch.arange(acts.size(1)) % lengths[:, None]
    repeated = torch.stack([row[place] for row, place in zip(acts, places, strict=True)])
    others, found = acts.clone(), torch.zeros(len(acts), dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        differs = (repeated[:, :length] != acts[row, :length]).flatten(1).any(dim=1)
        if differs.any():
            others[row] = repeated[rng.choice(torch.nonzero(differs)[:, 0].numpy())]
            found[row] = True
    return others, found


def _rows(recorded: Recorded, rows: np.ndarray) -> Recorded:
    """Only these segments."""
    segments = recorded.segments
    kept = Segments(segments.episode_ids[rows], segments.starts[rows], segments.length)
    batch = select(recorded.batch, torch.from_numpy(rows))
    return Recorded(kept, batch, recorded.num_context_steps, recorded.mask[rows], recorded.returns[rows])


def select(batch: Batch, rows: Tensor) -> Batch:
    """The given rows of a batch, of which some may be repeated. In the result, `segments` is None."""
    columns = {name: value[rows] for name, value in vars(batch).items() if torch.is_tensor(value)}
    extra = {name: value[rows] for name, value in batch.extra.items()}
    return replace(batch, **columns, extra=extra, segments=None)
