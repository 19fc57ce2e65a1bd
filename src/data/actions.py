"""Actions of games with keyboard and mouse, as vectors of zeros and ones."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from errors import UserError

ARROWS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class ActionLayout:
    """What the entries of a multi-hot action mean: keys, mouse buttons, then one of each axis's mouse motions.

    `keys` as they are written on the keyboard (`w`, `space`, `left ctrl`), `buttons` among `left click`,
    `middle click`, `right click`. `mouse_x` and `mouse_y`: motions in pixels a step, ascending, to the right and down;
    a motion counts as the nearest of them. Of the keys of a group in `exclusive`, none counts while several are held.
    `arrows`: the motion that the arrow keys stand for, sideways and up or down.
    """

    keys: tuple[str, ...]
    buttons: tuple[str, ...] = ()
    mouse_x: tuple[float, ...] = ()
    mouse_y: tuple[float, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    arrows: tuple[float, ...] = (0, 0)

    def __post_init__(self) -> None:
        for kind in ("keys", "buttons"):
            object.__setattr__(self, kind, tuple(str(name) for name in getattr(self, kind)))
        if any(isinstance(group, str) for group in self.exclusive):
            raise UserError(f"exclusive of the action layout lists groups, as in [[w, s]]: {list(self.exclusive)}.")
        object.__setattr__(self, "exclusive", tuple(tuple(map(str, group)) for group in self.exclusive))
        if self.num_actions == 0:
            raise UserError("An action layout needs keys, buttons or mouse motions.")
        if repeated := {name for name in self.held_names if self.held_names.count(name) > 1}:
            raise UserError(f"The action layout names {sorted(repeated)[0]} twice.")
        if unknown := {name for group in self.exclusive for name in group} - set(self.held_names):
            raise UserError(f"The action layout has {sorted(unknown)[0]} in exclusive, but not among its keys.")
        for axis in ("mouse_x", "mouse_y"):
            motions = getattr(self, axis)
            if list(motions) != sorted(set(motions)):
                raise UserError(f"{axis} of the action layout has to ascend: {list(motions)}.")
        if len(self.arrows) != 2:
            raise UserError(f"arrows of the action layout are two numbers, sideways and up or down: {self.arrows}.")

    @property
    def held_names(self) -> tuple[str, ...]:
        """Everything that is held or not: keys, then buttons."""
        return (*self.keys, *self.buttons)

    @property
    def num_actions(self) -> int:
        """Entries of an action."""
        return len(self.held_names) + len(self.mouse_x) + len(self.mouse_y)

    @property
    def has_mouse(self) -> bool:
        return bool(self.mouse_x or self.mouse_y)

    def encode(self, held: Collection[str], motion: tuple[float, float] = (0, 0)) -> Tensor:
        """The action of what is held and how the mouse moved, uint8 (num_actions)."""
        x, y = motion
        for arrow, (right, down) in ARROWS.items():
            if arrow in held and arrow not in self.keys:
                x, y = x + right * self.arrows[0], y + down * self.arrows[1]
        flags = np.array([[name in held for name in self.held_names]], dtype=bool)
        return torch.from_numpy(self.encode_steps(flags, np.array([[x, y]], dtype=np.float64))[0])

    def encode_steps(self, held: np.ndarray, motions: np.ndarray) -> np.ndarray:
        """Actions of t steps: `held` bool (t, held names), `motions` (t, 2) in pixels, to uint8 (t, num_actions)."""
        held = held.copy()
        for group in self.exclusive:
            members = [self.held_names.index(name) for name in group]
            held[:, members] &= held[:, members].sum(axis=1, keepdims=True) == 1
        columns = [held.astype(np.uint8)]
        for axis, motion in ((self.mouse_x, motions[:, 0]), (self.mouse_y, motions[:, 1])):
            if axis:
                nearest = np.abs(motion[:, None] - np.array(axis)).argmin(axis=1)
                columns.append(np.eye(len(axis), dtype=np.uint8)[nearest])
        return np.concatenate(columns, axis=1)

    def describe(self, act: Tensor) -> str:
        """An action in words, such as `w space -60,0`."""
        flags = act.bool().tolist()
        words = [name for name, is_held in zip(self.held_names, flags, strict=False) if is_held]
        start = len(self.held_names)
        motion = []
        for axis in (self.mouse_x, self.mouse_y):
            chosen = [value for value, is_set in zip(axis, flags[start : start + len(axis)], strict=True) if is_set]
            motion.append(chosen[0] if chosen else 0)
            start += len(axis)
        if any(motion):
            words.append(f"{motion[0]:+g},{motion[1]:+g}")
        return " ".join(words)
