"""The simulated kitchen (Gymnasium-Robotics, `FrankaKitchen-v1`), and how it is drawn."""

import re
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.pictures import to_frames
from envs.robotics import make_robot, opengl_needed

KITCHEN = "FrankaKitchen-v1"
KITCHEN_TASKS = ("microwave", "kettle", "light switch", "slide cabinet")
LONGEST = 450
"""Steps of an episode at most, as in the published data sets."""
NUM_JOINTS = 9
"""Entries of an action: seven joints of the arm, and two fingers."""


@dataclass(frozen=True)
class Look:
    """How MuJoCo draws: height and width of pictures, pixels of the shadow map (0: no shadows), samples of a pixel."""

    side: int = 480
    shadow_map: int = 4096
    samples: int = 8

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, shadows {self.shadow_map}, samples {self.samples}"

    @classmethod
    def named_in(cls, text: str) -> Self | None:
        """The look that a text mentions, as it writes itself; None if there is none."""
        found = re.search(r"(\d+)x\1, shadows (\d+), samples (\d+)", text)
        return None if found is None else cls(*map(int, found.groups()))

    def set_in(self, env: gymnasium.Env) -> None:
        """Draw an environment of MuJoCo like this. It counts from its first picture on."""
        model = getattr(env.unwrapped, "model", None)
        if hasattr(model, "vis"):
            model.vis.quality.shadowsize, model.vis.quality.offsamples = self.shadow_map, self.samples


PUBLISHED = Look()
QUICK = Look(side=128, shadow_map=0, samples=0)
"""25 times faster. Without shadows the scene is brighter: these frames are not to be mixed with the others."""


def make_kitchen(**options: Any) -> gymnasium.Env:
    """The kitchen with the settings of the published data sets; `options` are arguments of the environment."""
    flags = {"terminate_on_tasks_completed": False, "remove_task_when_completed": False}
    return make_robot(KITCHEN, {"tasks_to_complete": list(KITCHEN_TASKS), **flags, **options}, LONGEST)


def draw(env: gymnasium.Env, frame: tuple[int, int, int]) -> Tensor:
    """What an environment shows now, as in prepared data: uint8 of the shape `frame` (c, h, w).

    Raises UserError without OpenGL.
    """
    with opengl_needed():
        picture = np.asarray(env.render())
    return to_frames(picture[None], frame[1:], is_grey=frame[0] == 1)[0]


def as_action(joints: np.ndarray) -> Tensor:
    """Joint velocities as stored actions are: float32 (9)."""
    return torch.from_numpy(joints.astype(np.float32))
