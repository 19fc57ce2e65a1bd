"""Rollouts: the newest steps in the replay, with their advantages, and the minibatches that they are cut into."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms.model_free.frames import frames_before
from algorithms.model_free.ppo.policy import LOG_PROB, VALUE
from data import Replay, Segments
from models.model_free import Minibatch
from rl.returns import lambda_returns


@dataclass(frozen=True)
class Rollout:
    """n steps: where they are, and what was learnt about them, float32 (n) each.

    `log_prob` and `value` come from the policy that acted; `returns` are λ-returns.
    """

    places: Segments
    act: Tensor
    log_prob: Tensor
    value: Tensor
    returns: Tensor

    def __len__(self) -> int:
        return len(self.places)

    def minibatch(self, chosen: np.ndarray, replay: Replay, num_frames: int, device: torch.device) -> Minibatch:
        """The steps with these numbers, on a device."""
        places = Segments(self.places.episode_ids[chosen], self.places.starts[chosen], 1)
        frames, _ = frames_before(replay, places, num_frames)
        columns = [each[torch.from_numpy(chosen)].to(device) for each in self._columns]
        act, log_prob, value, returns = columns
        return Minibatch(frames.to(device), act, log_prob, value, returns - value, returns)

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.act, self.log_prob, self.value, self.returns

    def state_dict(self) -> dict[str, Any]:
        places = torch.from_numpy(np.stack((self.places.episode_ids, self.places.starts)))
        return {"places": places, "columns": self._columns}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Rollout":
        return cls(Segments(*state["places"].numpy(), 1), *state["columns"])


class RolloutReader:
    """Reads what was collected since the last rollout, with λ-returns of the signs of rewards.

    The value of what follows the newest step of an unfinished episode is not known yet, so this step is part of the
    next rollout.
    """

    def __init__(
        self,
        replay: Replay,
        num_frames: int,
        gamma: float,
        lambda_: float,
        evaluate: Callable[[Tensor], Tensor],
    ) -> None:
        """`evaluate(frames)`: values (b) of frames (b, num_frames, c, h, w), where an episode was truncated."""
        self.replay = replay
        self._num_frames = num_frames
        self._gamma, self._lambda = gamma, lambda_
        self._evaluate = evaluate
        self._num_read = np.zeros(0, np.int64)

    def read(self) -> Rollout:
        replay, lengths = self.replay, self.replay.episode_lengths
        stops = np.where(replay.is_over, lengths, lengths - 1)
        starts = np.zeros_like(stops)
        starts[: len(self._num_read)] = self._num_read
        self._num_read = stops
        counts = stops - starts
        ids = np.repeat(np.arange(len(counts)), counts)
        steps = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
        # Each step with the one that follows it.
        pairs = replay.gather(Segments(ids, steps, 2)).to(torch.device("cpu"))
        value, rew, end = pairs.extra[VALUE], pairs.rew[:, 0], pairs.end[:, 0].bool()
        is_cut = torch.from_numpy(steps + 1 == stops[ids])
        next_value = self._value_at_truncations(Segments(ids, steps, 1), pairs.trunc[:, 0].bool() & ~end, value[:, 1])
        columns = [each[:, None] for each in (rew, end, is_cut, next_value)]
        returns = lambda_returns(*columns, self._gamma, self._lambda).squeeze(1) if len(ids) > 0 else rew
        # Copies: a checkpoint would hold the whole pairs.
        act, log_prob, value = (each[:, 0].clone() for each in (pairs.act, pairs.extra[LOG_PROB], value))
        return Rollout(Segments(ids, steps, 1), act, log_prob, value, returns)

    def _value_at_truncations(self, places: Segments, is_truncated: Tensor, next_value: Tensor) -> Tensor:
        """The values of what follows: where an episode was truncated, of its final frames."""
        chosen = is_truncated.nonzero()[:, 0]
        if len(chosen) == 0:
            return next_value
        at = Segments(places.episode_ids[chosen.numpy()], places.starts[chosen.numpy()], 1)
        _, final = frames_before(self.replay, at, self._num_frames)
        return next_value.index_put((chosen,), self._evaluate(final).cpu())

    def forget(self, count: int) -> None:
        """Take the newest episodes that have `count` steps together as not read yet, and all others as read."""
        lengths = self.replay.episode_lengths
        newer = np.cumsum(lengths[::-1])[::-1] - lengths
        self._num_read = np.where(newer < count, 0, lengths - ~self.replay.is_over)

    def state_dict(self) -> dict[str, Any]:
        return {"num_read": torch.from_numpy(self._num_read)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._num_read = state["num_read"].numpy().copy()
