"""Random segments of episodes: one vectorised draw for the whole batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segments:
    """Segments [start, start + length) of episodes; they may begin before step 0 and stop after the episode's end."""

    episode_ids: np.ndarray
    starts: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.episode_ids)

    def slice(self, first: int, stop: int) -> "Segments":
        """The segments at indices [first, stop)."""
        return Segments(self.episode_ids[first:stop], self.starts[first:stop], self.length)

    def batches(self, batch_size: int, at_most: int | None = None) -> Iterator["Segments"]:
        """All segments in batches, of which the last may be shorter; or `at_most` of these, evenly spaced."""
        firsts = np.arange(0, len(self), batch_size)
        if at_most is not None and len(firsts) > at_most:
            firsts = firsts[np.linspace(0, len(firsts) - 1, at_most).astype(np.int64)]
        return (self.slice(first, first + batch_size) for first in firsts.tolist())


def draw_segments(
    rng: np.random.Generator,
    episode_lengths: np.ndarray,
    batch_size: int,
    length: int,
    age_weights: tuple[float, ...] | None,
    beyond_end: bool,
) -> Segments:
    """Draw an episode for each segment, a step uniformly from the episode, and the step's place in the segment.

    Segments can begin before their episode. They can extend after its end only with `beyond_end=True`.
    """
    cumulative = np.cumsum(episode_probabilities(episode_lengths, age_weights))
    drawn = np.searchsorted(cumulative, rng.random(batch_size) * cumulative[-1], side="right")
    episode_ids = np.minimum(drawn, len(episode_lengths) - 1)
    lengths = episode_lengths[episode_ids]
    steps = (rng.random(batch_size) * lengths).astype(np.int64)
    offsets = rng.integers(0, length, batch_size)
    starts = steps - offsets if beyond_end else np.minimum(lengths, steps + 1 + offsets) - length
    return Segments(episode_ids, starts, length)


def draw_inside(rng: np.random.Generator, episode_lengths: np.ndarray, batch_size: int, length: int) -> Segments:
    """Draw segments uniformly from all that lie inside an episode; raises ValueError if there are none."""
    room = room_inside(episode_lengths, length)
    places = rng.integers(room.sum(), size=batch_size)
    episode_ids = np.searchsorted(np.cumsum(room), places, side="right")
    return Segments(episode_ids, places - (np.cumsum(room) - room)[episode_ids], length)


def room_inside(episode_lengths: np.ndarray, length: int) -> np.ndarray:
    """The number of segments that lie inside each episode."""
    return np.maximum(0, episode_lengths - length + 1)


def episode_probabilities(episode_lengths: np.ndarray, age_weights: tuple[float, ...] | None) -> np.ndarray:
    """Probability of each episode, oldest first.

    Without weights, or with fewer episodes than weights, it is proportional to the episode's length. Otherwise the
    episodes are split by age into as many groups as there are weights, and the weight of a group is shared equally by
    its episodes.
    """
    count = len(episode_lengths)
    if age_weights is None or count < len(age_weights):
        return episode_lengths / episode_lengths.sum()
    num_groups = len(age_weights)
    groups = np.minimum(np.arange(count) // (count // num_groups), num_groups - 1)
    weights = np.asarray(age_weights) / np.sum(age_weights)
    return (weights / np.bincount(groups, minlength=num_groups))[groups]


def chunk_episodes(episode_lengths: np.ndarray, length: int) -> Segments:
    """Cut every episode into consecutive chunks, padded after the end; chunks with a single real step are dropped."""
    ids, starts = [], []
    for episode_id, episode_length in enumerate(episode_lengths):
        firsts = np.arange(0, episode_length - 1, length)
        ids.append(np.full(len(firsts), episode_id))
        starts.append(firsts)
    return Segments(np.concatenate(ids).astype(np.int64), np.concatenate(starts).astype(np.int64), length)
