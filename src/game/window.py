"""The window: keys in, pictures out, at an even pace."""

import os
import sys

import pygame

from errors import UserError
from game.painter import Painter
from game.view import Field, Playable
from run.interrupt import Interrupts

KEYPAD = {"enter": "return", **{f"[{digit}]": str(digit) for digit in range(10)}}
LEAVE = ("escape", "q")
NO_DISPLAY = "There is no display here. Use --video FILE.mp4 to make a film of it instead."


class Window:
    """A window as large as its picture. Raises UserError where there is no display."""

    def __init__(self, title: str, painter: Painter, fps: float, interrupts: Interrupts) -> None:
        open_display()
        pygame.display.set_caption(title)
        pygame.key.set_repeat(350, 50)
        self._painter = painter
        self._fps = fps
        self._interrupts = interrupts
        self._clock = pygame.time.Clock()
        self._held: list[str] = []
        self._tapped: list[str] = []

    def show(self, playable: Playable) -> None:
        """Until the player leaves. What was played is safe then, also after Ctrl-C or an error."""
        try:
            while self._handle_events(playable):
                playable.tick([key for key in self._tapped if key not in self._held] + self._held)
                self._tapped.clear()
                self._draw(playable)
                self._clock.tick(self._fps)
        finally:
            playable.close()
            pygame.display.quit()

    def _handle_events(self, playable: Playable) -> bool:
        """Whether the player stays."""
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return False
            if event.type == pygame.WINDOWFOCUSLOST:
                self._held.clear()
            if event.type not in (pygame.KEYDOWN, pygame.KEYUP):
                continue
            name = pygame.key.name(event.key)
            key = KEYPAD.get(name, name)
            if event.type == pygame.KEYUP:
                self._held = [other for other in self._held if other != key]
            elif key in LEAVE:
                return False
            else:
                self._key_down(key, playable)
        return self._interrupts.received is None

    def _key_down(self, key: str, playable: Playable) -> None:
        is_repeat = key in self._held
        if not is_repeat:
            self._held.append(key)
            # A key that is let go before the next tick counts for that tick.
            self._tapped.append(key)
        if not is_repeat or key in playable.repeating_keys:
            playable.press(key)

    def _draw(self, playable: Playable) -> None:
        rate = Field("fps", f"{self._clock.get_fps():.1f}/{self._fps:g}", 13)
        picture = self._painter.paint(playable.view(), rate)
        screen = pygame.display.get_surface()
        if screen is None or screen.get_size() != picture.get_size():
            screen = pygame.display.set_mode(picture.get_size())
        screen.blit(picture, (0, 0))
        pygame.display.flip()


def open_display() -> None:
    """Raises UserError where there is none."""
    named = "SDL_VIDEODRIVER" in os.environ
    if sys.platform == "linux" and not named and not ({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        raise UserError(NO_DISPLAY)
    try:
        pygame.display.init()
    except pygame.error:
        raise UserError(NO_DISPLAY) from None
    # Where nothing else works, SDL draws into memory, without a word.
    if pygame.display.get_driver() in ("offscreen", "dummy") and not named:
        pygame.display.quit()
        raise UserError(NO_DISPLAY)
