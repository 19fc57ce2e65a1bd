"""What is shown at one moment: the frame, and what is known about it. Nothing is drawn here."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Field:
    """A word and its value; `width` characters are kept free for it, so that nothing moves when values change."""

    label: str
    value: str
    width: int


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: a sign of one or two characters, a share in [0, 1], and whether it was chosen."""

    sign: str
    share: float
    is_chosen: bool


@dataclass(frozen=True)
class View:
    """`frame` uint8 (c, h, w); `strip`: frames for a row of small ones below it; `message`: a line for the player.

    `preview`: the small frame that an upsampler enlarged, shown in the header.
    """

    frame: Tensor
    fields: tuple[Field, ...]
    bars: tuple[Bar, ...] = ()
    strip: tuple[Tensor, ...] = ()
    message: str = ""
    preview: Tensor | None = None


def number(value: float, width: int, sign: str = "") -> str:
    """A number in at most that many characters, with as many of six digits as fit; `sign="+"` shows a plus too."""
    texts = (f"{value:{sign}.{digits}g}" for digits in range(6, 0, -1))
    return next((text for text in texts if len(text) <= width), "…")


class Playable(Protocol):
    """What a window can show. Keys are named as they are written on them: `return`, `up`, `m`, `.`, `page up`, …

    Those in `repeating_keys` are pressed again and again while they are held. Mouse buttons are held as `left click`,
    `middle click` and `right click`.
    """

    repeating_keys: frozenset[str]
    game_keys: frozenset[str]
    """Keys that belong to what is played: the window leaves them alone."""
    wants_pointer: bool
    """Whether the mouse moves something in what is played now."""
    is_still: bool
    """Whether nothing moves by itself any more."""

    def press(self, key: str) -> None:
        """A key went down."""

    def tick(self, held: list[str], motion: tuple[int, int] = (0, 0)) -> None:
        """A moment passed, with these keys held, oldest first, and the mouse moved right and down, in pixels."""

    def view(self) -> View: ...

    def close(self) -> None:
        """Called when the player leaves, also after an error."""
