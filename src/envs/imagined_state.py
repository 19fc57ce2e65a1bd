"""The state of imagined environments, and what is predicted to follow from it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class State:
    """The state of b environments: the last n frames in [-1, 1], their actions, and the reward model's memory.

    `full_obs` are the last full-size frames, which the upsampler is conditioned on. Without a reward and termination
    model, or without an upsampler, their tensors have shape (b, 0). `origin` as in `Start`.
    """

    obs: Tensor
    act: Tensor
    hx: Tensor
    cx: Tensor
    full_obs: Tensor
    origin: Tensor


@dataclass(frozen=True)
class Prediction:
    """What follows from a state and actions, before anything restarts; `obs` and `full_obs` uint8."""

    state: State
    obs: Tensor
    rew: Tensor
    end: Tensor
    full_obs: Tensor | None
    trajectory: list[Tensor]

    def split(self, sizes: list[int]) -> list["Prediction"]:
        """The parts of several worlds."""
        states = zip(*[column.split(sizes) for column in vars(self.state).values()], strict=True)
        full = [None] * len(sizes) if self.full_obs is None else self.full_obs.split(sizes)
        frames = zip(*[frame.split(sizes) for frame in self.trajectory], strict=True)
        rows = zip(
            states, self.obs.split(sizes), self.rew.split(sizes), self.end.split(sizes), full, frames, strict=True
        )
        return [Prediction(State(*state), *row[:-1], list(row[-1])) for state, *row in rows]
