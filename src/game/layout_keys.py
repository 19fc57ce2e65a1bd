"""From held keys and the mouse to multi-hot actions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data import ActionLayout
from data.actions import ARROWS
from errors import UserError, near_matches
from game.key_names import BUTTONS, KEYS

LONGEST_NAME = 24
RANDOM_SHARE = 0.2


class LayoutKeys:
    """Keys, buttons and mouse of a game, as its layout names them."""

    def __init__(self, layout: ActionLayout) -> None:
        """Raises UserError for a key that no keyboard has."""
        for name in layout.keys:
            if name not in KEYS:
                raise UserError(
                    f"The action layout has a key {name!r}, which no keyboard has.{near_matches(name, sorted(KEYS))}"
                )
        for name in layout.buttons:
            if name not in BUTTONS.values():
                raise UserError(f"The action layout has a button {name!r}: there are {', '.join(BUTTONS.values())}.")
        self.layout = layout
        self.has_mouse = layout.has_mouse
        arrows = ARROWS if layout.has_mouse else ()
        self.game_keys = frozenset((*layout.held_names, *arrows))
        self.longest_name = LONGEST_NAME

    def action(self, held: Sequence[str], motion: tuple[float, float] = (0, 0)) -> Tensor:
        """The action, uint8 (num_actions). Of keys that exclude each other, only the newest counts."""
        groups = [[key for key in held if key in group] for group in self.layout.exclusive]
        older = {key for group in groups for key in group[:-1]}
        return self.layout.encode([key for key in held if key not in older], motion)

    def draw(self) -> Tensor:
        """A random action: each key with a small probability, and any motion."""
        held = [name for name in self.layout.held_names if float(torch.rand(())) < RANDOM_SHARE]
        axes = (self.layout.mouse_x or (0,), self.layout.mouse_y or (0,))
        return self.layout.encode(held, tuple(axis[int(torch.randint(len(axis), ()))] for axis in axes))

    def name(self, act: Tensor) -> str:
        words = self.layout.describe(act) or "-"
        return words if len(words) <= LONGEST_NAME else f"{words[: LONGEST_NAME - 1]}…"

    def signs(self) -> list[str]:
        """Empty, as no policy chooses among them by probabilities."""
        return []

    def help(self) -> tuple[tuple[str, str], ...]:
        """The keys and buttons have no names but their own."""
        mouse = (("mouse, ← → ↑ ↓", "look"),) if self.has_mouse else ()
        return ((" ".join(self.layout.held_names), "the game's keys"), *mouse)

    def describe(self) -> str:
        """Keys, buttons and mouse, on one line."""
        mouse = ["mouse or arrow keys"] if self.has_mouse else []
        return ", ".join((*self.layout.held_names, *mouse))
