"""What is seen at one moment: the frame, and what is known about it. Nothing is drawn here."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from game.inputs import Command


@dataclass(frozen=True)
class Field:
    """A word and its value; `width` characters are kept free for both, so that nothing moves when values change.

    A number is written by `form`, a format specification, or with as many digits as have room; `unit` follows it.
    Those with `is_detail` are of interest to whoever looks into the machine.
    """

    label: str
    value: str | float | bool | None
    width: int
    form: str = ""
    unit: str = ""
    is_detail: bool = False

    @property
    def text(self) -> str:
        """The value as front ends show it; `-` where it is not known."""
        if self.value is None:
            return "-"
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        if isinstance(self.value, str):
            return self.value
        room = self.width - len(self.label) - 1
        is_fitted = isinstance(self.value, float) and self.form in ("", "+")
        return (number(self.value, room, self.form) if is_fitted else f"{self.value:{self.form}}") + self.unit


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: a sign of one or two characters, a share in [0, 1], whether it was chosen, and a name."""

    sign: str
    share: float
    is_chosen: bool
    name: str = ""


@dataclass(frozen=True)
class Ended:
    """An episode that is over, the `number`-th."""

    number: int
    total: float
    length: int
    reason: str
    shows_return: bool = True

    @property
    def words(self) -> str:
        score = f"return {number(self.total, 9)} · " if self.shows_return else ""
        return f"{score}{self.length} steps · {self.reason}"

    @property
    def line(self) -> str:
        return f"Episode {self.number}: {self.words}"


@dataclass(frozen=True)
class Score:
    """The returns of this episode, of the last one and of the best one; None before there is one."""

    now: float
    last: float | None = None
    best: float | None = None


@dataclass(frozen=True)
class Choice:
    """Something that a person can set: one of `options`, or a number from `least` to `most`; `value` is set now."""

    name: str
    value: str | int
    options: tuple[str, ...] = ()
    least: int = 0
    most: int = 0


@dataclass(frozen=True)
class View:
    """`frame` uint8 (c, h, w); `strip`: frames for a row of small ones below it; `message`: a line for the player.

    `preview`: the small frame that an upsampler enlarged, shown in the header. `status`: words such as `paused`.
    `held`: what the person holds. A session sets `number`, the count of its views, `sequence`, the number of the last
    event that counted, and `frame_changed`.
    """

    frame: Tensor
    fields: tuple[Field, ...]
    bars: tuple[Bar, ...] = ()
    strip: tuple[Tensor, ...] = ()
    message: str = ""
    preview: Tensor | None = None
    score: Score | None = None
    ended: Ended | None = None
    status: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    wants_pointer: bool = False
    number: int = 0
    sequence: int = 0
    frame_changed: bool = True


def number(value: float, width: int, sign: str = "") -> str:
    """A number in at most that many characters, with as many of six digits as fit; `sign="+"` shows a plus too."""
    texts = (f"{value:{sign}.{digits}g}" for digits in range(6, 0, -1))
    return next((text for text in texts if len(text) <= width), "…")


class Playable(Protocol):
    """What a front end can show. Keys are named as they are written on them: `return`, `up`, `m`, `.`, `page up`, …

    Those in `repeating_keys` are pressed again and again while they are held. Mouse buttons are held as `left click`,
    `middle click` and `right click`.
    """

    repeating_keys: frozenset[str]
    game_keys: frozenset[str]
    """Keys that belong to what is played: front ends leave them alone."""
    wants_pointer: bool
    """Whether the mouse moves something in what is played now."""
    is_still: bool
    """Whether nothing moves by itself any more."""
    is_over: bool
    """Whether there is nothing more to see, so that a window closes."""
    help: tuple[tuple[str, str], ...]
    """Keys, and what they do."""

    def press(self, key: str) -> None:
        """A key went down."""

    def obey(self, command: Command) -> None:
        """Do what a person wants. Raises UserError for what does not exist."""

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        """A moment passed, with these keys held, oldest first, and the mouse moved right and down, in pixels."""

    def view(self) -> View: ...

    def close(self) -> None:
        """Called when the player leaves, also after an error."""
