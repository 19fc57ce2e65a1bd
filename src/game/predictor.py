"""Predictions of the next frame, and how they are sampled."""

import time
from bisect import bisect_left, bisect_right

import torch
from torch import Tensor

from algorithms.base import DenoisingWorld, World
from data import Batch
from game.choices import check_number, most_denoising
from game.random_numbers import RandomNumbers
from game.view import Choice, Field
from run.device import autocast

LADDER = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of sampling steps that keys lead to."""
KINDS = {0.0: "DDIM", 1.0: "ancestral"}
"""Names of `DenoisingWorld.eta`."""


class Predictor:
    """Predicts the frame after real ones. Keys change how it is sampled from noise, in worlds that do so."""

    help = (("PgUp PgDn", "sampling steps"), ("s", "DDIM or ancestral sampling"))

    def __init__(self, world: World, device: torch.device, precision: torch.dtype, seed: int = 0) -> None:
        """`seed` is that of the noise."""
        self.world = world
        self._device = device
        self._precision = precision
        self.random = RandomNumbers(seed, device)
        self._seconds = 0.0

    @property
    def num_context_steps(self) -> int:
        return self.world.num_context_steps

    def predict(self, obs: Tensor, act: Tensor) -> Tensor:
        """The next frame, uint8 (c, h, w), after `num_context_steps` frames, uint8 (n, c, h, w), and actions (n, …)."""
        began, nothing = time.perf_counter(), torch.zeros(1, len(obs))
        flags = nothing.byte()
        batch = Batch(obs[None], act[None], nothing, flags, flags, flags == 0, obs[-1:]).to(self._device)
        with self.random, autocast(self._device, self._precision):
            frame = self.world.imagine(batch, batch.act[:, :0]).obs[0, 0].cpu()
        self._seconds = time.perf_counter() - began
        return frame

    def press(self, key: str) -> bool:
        """Whether the key changed how frames are sampled."""
        world = self.world
        if not isinstance(world, DenoisingWorld):
            return False
        match key:
            case "page up" | "page down":
                now, most = world.num_steps_denoising, most_denoising(world)
                place = bisect_right(LADDER, now) if key == "page up" else bisect_left(LADDER, now) - 1
                self.set_steps(min(most, LADDER[min(max(place, 0), len(LADDER) - 1)]))
            case "s" if world.eta is not None:
                world.eta = 0.0 if world.eta == 1 else 1.0
            case _:
                return False
        return True

    def set_steps(self, steps: int) -> None:
        """Set the number of sampling steps; raises UserError if it is not possible."""
        if isinstance(self.world, DenoisingWorld):
            self.world.num_steps_denoising = check_number("denoising", steps, most_denoising(self.world))

    @property
    def fields(self) -> tuple[Field, ...]:
        """Steps and kind of sampling, and the seconds that the last prediction took."""
        world, took = self.world, Field("prediction", self._seconds, 18, ".2f", " s")
        if not isinstance(world, DenoisingWorld):
            return (took,)
        kind = "" if world.eta is None else f" × {KINDS.get(world.eta, f'η={world.eta:g}')}"
        return (Field("sampling", world.num_steps_denoising, 25, unit=kind), took)

    @property
    def choices(self) -> tuple[Choice, ...]:
        world = self.world
        if not isinstance(world, DenoisingWorld):
            return ()
        return (Choice("denoising", world.num_steps_denoising, least=1, most=most_denoising(world)),)
