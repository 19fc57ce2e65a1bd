"""Something to play whose frames take as long as a test wants."""

import threading
from dataclasses import dataclass, field

import torch

from errors import UserError
from game.inputs import GoTo
from game.view import View


@dataclass
class Slow:
    """Something to play whose ticks last until they are let go."""

    repeating_keys = game_keys = frozenset()
    wants_pointer = is_still = is_over = False
    help = ()
    may_go: threading.Event = field(default_factory=threading.Event)
    is_ticking: threading.Event = field(default_factory=threading.Event)
    commands: list = field(default_factory=list)
    ticks: int = 0
    is_closed: bool = False

    def press(self, key: str) -> None:
        self.commands.append(key)

    def obey(self, command: object) -> None:
        if command == GoTo(99):
            raise UserError("There is no episode 99.")
        self.commands.append(command)

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        self.is_ticking.set()
        assert self.may_go.wait(60)
        self.ticks += 1

    def view(self) -> View:
        return View(torch.full((3, 2, 2), min(self.ticks, 2), dtype=torch.uint8), ())

    def close(self) -> None:
        self.is_closed = True
