"""Which segments a batch is made of: one vectorised draw for the whole batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segments:
    """Segments [start, start + length) of episodes; a start may lie before 0 and a stop behind the episode's end."""

    episode_ids: np.ndarray
    starts: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.episode_ids)


def draw_segments(
    rng: np.random.Generator,
    episode_lengths: np.ndarray,
    batch_size: int,
    length: int,
    age_weights: tuple[float, ...] | None,
    beyond_end: bool,
) -> Segments:
    """Draw segments that each hold one uniformly drawn step of a drawn episode.

    Padding lies only before the start of an episode (`beyond_end=False`: denoiser, starts of imagination) or on both
    sides (`beyond_end=True`: reward and termination model).
    """
    cumulative = np.cumsum(episode_probabilities(episode_lengths, age_weights))
    drawn = np.searchsorted(cumulative, rng.random(batch_size) * cumulative[-1], side="right")
    episode_ids = np.minimum(drawn, len(episode_lengths) - 1)
    lengths = episode_lengths[episode_ids]
    steps = (rng.random(batch_size) * lengths).astype(np.int64)
    offsets = rng.integers(0, length, batch_size)
    starts = steps - offsets if beyond_end else np.minimum(lengths, steps + 1 + offsets) - length
    return Segments(episode_ids, starts, length)


def episode_probabilities(episode_lengths: np.ndarray, age_weights: tuple[float, ...] | None) -> np.ndarray:
    """Probability of each episode, oldest first.

    Proportional to length without weights, or while there are fewer episodes than weights. Otherwise the episodes are
    cut by age into as many groups as there are weights; a group's weight is shared equally by its episodes.
    """
    count = len(episode_lengths)
    if age_weights is None or count < len(age_weights):
        return episode_lengths / episode_lengths.sum()
    num_groups = len(age_weights)
    groups = np.minimum(np.arange(count) // (count // num_groups), num_groups - 1)
    weights = np.asarray(age_weights) / np.sum(age_weights)
    return (weights / np.bincount(groups, minlength=num_groups))[groups]


def chunk_episodes(episode_lengths: np.ndarray, length: int) -> Segments:
    """Every episode in consecutive chunks, padded behind the end, without chunks of fewer than two real steps."""
    ids, starts = [], []
    for episode_id, episode_length in enumerate(episode_lengths):
        firsts = np.arange(0, episode_length - 1, length)
        ids.append(np.full(len(firsts), episode_id))
        starts.append(firsts)
    return Segments(np.concatenate(ids).astype(np.int64), np.concatenate(starts).astype(np.int64), length)
