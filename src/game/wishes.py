"""What recordings hold besides what agents see."""

from dataclasses import dataclass

import torch
from torch import Tensor

from data import Step
from game.moment import Moment


@dataclass(frozen=True)
class Wishes:
    """Whether recordings also hold how frames emerge from noise, and frames in the game's own or full size."""

    denoising_trajectory: bool = False
    original_obs: bool = False

    def extras(self, before: Moment, answer: Step) -> dict[str, Tensor]:
        """The entries for the step from a moment to the world's answer."""
        extras = {}
        larger = before.original_obs if before.full_obs is None else before.full_obs
        if self.original_obs and larger is not None:
            extras["original_obs"] = larger[0].cpu()
        if self.denoising_trajectory and answer.trajectory is not None:
            extras["denoising_trajectory"] = torch.cat(answer.trajectory).half().cpu()
        return extras


NO_WISHES = Wishes()
