"""Keyboard and mouse actions as multi-hot vectors."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from errors import UserError
from ranges import Between

Motion = Annotated[float, Between(-1e6, 1e6)]
"""Pixels per step."""
ARROWS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class ActionLayout:
    """The meaning of the entries of a multi-hot action: keys, mouse buttons, then the mouse motions of each axis.

    `keys` have the names on the keyboard (`w`, `space`, `left ctrl`); `buttons` are among `left click`,
    `middle click`, `right click`. `mouse_x` (to the right) and `mouse_y` (down) are ascending lists of motions in
    pixels per step; a motion is rounded to the nearest of them. `exclusive` lists groups of keys: if several keys of a
    group are held, none of them counts. `arrows` is the motion, horizontal and vertical, that the arrow keys stand for.
    """

    keys: tuple[str, ...]
    buttons: tuple[str, ...] = ()
    mouse_x: tuple[Motion, ...] = ()
    mouse_y: tuple[Motion, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    arrows: tuple[Motion, ...] = (0, 0)

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
        """The names of keys, then buttons."""
        return (*self.keys, *self.buttons)

    @property
    def num_actions(self) -> int:
        """The number of entries of an action."""
        return len(self.held_names) + len(self.mouse_x) + len(self.mouse_y)

    @property
    def has_mouse(self) -> bool:
        return bool(self.mouse_x or self.mouse_y)

    def encode(self, held: Collection[str], motion: tuple[float, float] = (0, 0)) -> Tensor:
        """The action, uint8 (num_actions), for the keys and buttons held and the motion of the mouse in pixels."""
        x, y = motion
        for arrow, (right, down) in ARROWS.items():
            if arrow in held and arrow not in self.keys:
                x, y = x + right * self.arrows[0], y + down * self.arrows[1]
        flags = np.array([[name in held for name in self.held_names]], dtype=bool)
        return torch.from_numpy(self.encode_steps(flags, np.array([[x, y]], dtype=np.float64))[0])

    def encode_steps(self, held: np.ndarray, motions: np.ndarray) -> np.ndarray:
        """The actions of t steps, uint8 (t, num_actions).

        `held` bool (t, len(held_names)), `motions` (t, 2) in pixels.
        """
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
