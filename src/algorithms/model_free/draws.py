"""Transitions of n steps, drawn uniformly from a replay of episodes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Replay, Segments
from models.model_free import Transitions


class TransitionDraws:
    """Draws steps of which it is known what followed: not the newest ones of unfinished episodes.

    Near the end of an episode there are fewer than n steps: what follows is then nothing, or, if the episode was
    truncated, its final frame.
    """

    def __init__(
        self, replay: Replay, num_frames: int, num_steps: int, gamma: float, generator: np.random.Generator
    ) -> None:
        """`num_steps` is n."""
        self._replay = replay
        self._num_frames, self._num_steps = num_frames, num_steps
        self._weights = gamma ** torch.arange(num_steps + 1)
        self._generator = generator

    def draw(self, count: int, device: torch.device) -> Transitions:
        """Draw that many transitions; raises ValueError if there are none."""
        lengths = self._replay.episode_lengths
        known = np.where(self._replay.is_over, lengths, np.maximum(lengths - self._num_steps, 0))
        places = self._generator.integers(known.sum(), size=count)
        ids = np.searchsorted(np.cumsum(known), places, side="right")
        return self.gather(Segments(ids, places - (np.cumsum(known) - known)[ids], 1), device)

    def gather(self, places: Segments, device: torch.device) -> Transitions:
        """The transitions that begin at given steps, segments of one step."""
        k, n = self._num_frames, self._num_steps
        ids, steps = places.episode_ids, places.starts
        left = self._replay.episode_lengths[ids] - steps
        # Column k - 1 is the step itself. Before an episode, a replay gives its first frame.
        batch = self._replay.gather(Segments(ids, steps - (k - 1), k + n)).to(device)
        followed, is_over = _sent(np.minimum(left, n), device), _sent(left <= n, device)
        rows = torch.arange(len(ids), device=device)[:, None]
        next_frames = batch.obs[rows, followed[:, None] + torch.arange(k, device=device)]
        newest = torch.where(is_over[:, None, None, None], batch.final_obs, next_frames[:, -1])
        weights, ahead = self._weights.to(device), slice(k - 1, k - 1 + n)
        # Beyond an episode, rewards are zero.
        rew = (batch.rew[:, ahead].sign() * weights[:n]).sum(dim=1)
        continues = ~batch.end[:, ahead].bool().any(dim=1)
        next_frames = torch.cat((next_frames[:, :-1], newest[:, None]), dim=1)
        return Transitions(batch.obs[:, :k], batch.act[:, k - 1], rew, next_frames, weights[followed] * continues)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state["generator"]


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
