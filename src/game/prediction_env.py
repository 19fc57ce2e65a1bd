"""Recorded episodes beside what a world predicts from them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from data import Dataset, every_nth
from game.dataset_env import DatasetEnv
from game.inputs import Command, SetDenoising
from game.predictor import Predictor
from game.side_by_side import TITLES, side_by_side
from game.view import Field, View

MOST_JUMPS = 20
"""Predictions in a chain."""


class PredictionEnv(DatasetEnv):
    """A place in a recorded episode, and the frame that the world predicts from there, beside the real one.

    One step of the world is `stride` recorded ones. In a chain, each prediction is the input of the next one; after
    `MOST_JUMPS`, or another choice of place, it begins again from the real frame. Before the first frame, the world
    sees this frame again.
    """

    help = (
        ("c", "predict from predictions"),
        *Predictor.help,
        ("← →", "one step"),
        *(each for each in DatasetEnv.help if each[0] not in ("← →", "PgUp PgDn")),
    )

    def __init__(self, datasets: Mapping[str, Dataset], predictor: Predictor, stride: int) -> None:
        self.predictor = predictor
        self.stride = stride
        self.is_chained = False
        self._chain: list[Tensor] = []
        self._predicted: Tensor | None = None
        super().__init__(dict(datasets), ())
        self.is_playing = True

    @property
    def pace(self) -> int:
        return self.stride if self.is_chained else 1

    @property
    def num_places(self) -> int:
        """Frames whose successor is known; at least the first."""
        return max(1, super().num_places - self.stride)

    def press(self, key: str) -> None:
        if self.predictor.press(key):
            self._predicted = None
        elif key == "c":
            self.is_chained = not self.is_chained
            self._go_to_step(self.step)
        elif key not in ("page up", "page down"):
            super().press(key)

    def obey(self, command: Command) -> None:
        if isinstance(command, SetDenoising):
            self.predictor.set_steps(command.steps)
            self._predicted = None
        else:
            super().obey(command)

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        """Go on from what was seen: what was not predicted yet is predicted first."""
        if self._predicted is None or not self.is_playing:
            return
        goes_on = self.is_chained and self.jump < MOST_JUMPS
        chain = [*self._chain, self._predicted] if goes_on else []
        super().tick(held, motion)
        self._chain = chain

    @property
    def jump(self) -> int:
        """The number of predictions from the last real frame to the predicted one."""
        return len(self._chain) + 1

    @torch.no_grad()
    def view(self) -> View:
        obs, act = self._context()
        if self._predicted is None:
            self._predicted = self.predictor.predict(obs, act)
        ahead = self.step + self.stride
        last = super().num_places - 1
        return View(
            side_by_side(obs[-1], self._predicted, self.frame(ahead), (self.step, ahead, last)),
            (
                Field("", " · ".join(TITLES), 42),
                Field("chain", self.jump if self.is_chained else "off", 20, unit=f" of {MOST_JUMPS} jumps"),
                *self.place,
                Field("ahead", self.stride, 13, unit=f" step{'s' if self.stride > 1 else ''}"),
                *self.predictor.fields,
            ),
            message=self.message,
            choices=(*self.choices, *self.predictor.choices),
        )

    def _context(self) -> tuple[Tensor, Tensor]:
        """The frames (n, c, h, w) and actions (n, …) that the world predicts from, predictions of a chain included."""
        steps = every_nth(self.episode, self.stride, self.step % self.stride)
        now, count = self.step // self.stride, self.predictor.num_context_steps
        places = torch.arange(now - count + 1, now + 1).clamp(min=0)
        obs, chain = steps.obs[places], self._chain[-count:]
        if chain:
            obs[-len(chain) :] = torch.stack(chain)
        return obs, steps.act[places]

    def _go_to_episode(self, episode_id: int) -> None:
        super()._go_to_episode(episode_id)
        self._forget()

    def _go_to_step(self, step: int) -> None:
        super()._go_to_step(step)
        self._forget()

    def _forget(self) -> None:
        self._chain, self._predicted = [], None
