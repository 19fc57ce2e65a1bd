"""What a person does between two ticks: keys, the pointer, and commands."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class KeyDown:
    """A key or a mouse button went down. Front ends may send it again and again while it is held."""

    key: str


@dataclass(frozen=True)
class KeyUp:
    key: str


@dataclass(frozen=True)
class Moved:
    """The pointer moved to the right and down, in pixels."""

    right: float
    down: float


@dataclass(frozen=True)
class FocusLost:
    """Keys that are let go elsewhere are not seen any more."""


@dataclass(frozen=True)
class SetEnv:
    name: str


@dataclass(frozen=True)
class SetController:
    name: str


@dataclass(frozen=True)
class SetHorizon:
    steps: int


@dataclass(frozen=True)
class SetDenoising:
    """The number of denoising steps of each imagined frame."""

    steps: int


@dataclass(frozen=True)
class SetDataset:
    name: str


@dataclass(frozen=True)
class GoTo:
    episode: int
    step: int = 0


@dataclass(frozen=True)
class Press:
    """A key whose meaning is a command."""

    key: str


@dataclass(frozen=True)
class Pause:
    """Nobody looks any more."""


Command = SetEnv | SetController | SetHorizon | SetDenoising | SetDataset | GoTo | Press | Pause
Event = KeyDown | KeyUp | Moved | FocusLost | Command


@dataclass(frozen=True)
class Turn:
    """What counts for one tick: commands in their order, the keys held, oldest first, and the motion in pixels.

    `sequence` is the number of the last event that is part of it.
    """

    commands: tuple[Command, ...] = ()
    held: tuple[str, ...] = ()
    motion: tuple[float, float] = (0, 0)
    sequence: int = 0


class Inputs:
    """Gathers events until the next turn. A key that goes down and up between two turns counts for one."""

    def __init__(self, repeating_keys: frozenset[str] = frozenset()) -> None:
        """Those in `repeating_keys` are pressed again and again while they are held."""
        self._repeating_keys = repeating_keys
        self._held: list[str] = []
        self._tapped: list[str] = []
        self._commands: list[Command] = []
        self._motion = (0.0, 0.0)
        self._sequence = 0
        # Events come from one thread, and turns are taken in another.
        self._lock = threading.Lock()

    @property
    def held(self) -> tuple[str, ...]:
        return tuple(self._held)

    def take(self, event: Event, sequence: int = 0) -> None:
        with self._lock:
            self._take(event, sequence)

    def next_turn(self) -> Turn:
        """What happened since the last turn, which then counts no more; keys that are held go on counting."""
        with self._lock:
            tapped = [key for key in self._tapped if key not in self._held]
            turn = Turn(tuple(self._commands), (*tapped, *self._held), self._motion, self._sequence)
            self._commands, self._tapped, self._motion = [], [], (0.0, 0.0)
            return turn

    def _take(self, event: Event, sequence: int) -> None:
        self._sequence = max(self._sequence, sequence)
        match event:
            case KeyDown(key):
                is_repeat = key in self._held
                if not is_repeat:
                    self._held.append(key)
                    self._tapped.append(key)
                if not is_repeat or key in self._repeating_keys:
                    self._commands.append(Press(key))
            case KeyUp(key):
                self._held = [other for other in self._held if other != key]
            case Moved(right, down):
                self._motion = self._motion[0] + right, self._motion[1] + down
            case FocusLost():
                self._held.clear()
            case command:
                self._commands.append(command)
