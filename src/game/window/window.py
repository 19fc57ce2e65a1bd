"""The window: keys in, pictures out, at an even pace."""

import os
import sys

import pygame

from errors import UserError
from game.layout_keys import BUTTONS
from game.painter import Painter
from game.view import Field, Playable
from run.interrupt import Interrupts

ROOM_FOR_HEADER = 120
KEYPAD = {"enter": "return", **{f"[{digit}]": str(digit) for digit in range(10)}}


class Window:
    """A window as large as its picture, or the whole screen with the picture in its middle.

    Where the mouse is wanted, the pointer is caught: only its motion counts. Raises UserError without a display.
    """

    def __init__(self, title: str, painter: Painter, fps: float, interrupts: Interrupts, is_full: bool = False) -> None:
        open_display()
        pygame.display.set_caption(title)
        pygame.key.set_repeat(350, 50)
        self._painter = painter
        self._fps = fps
        self._interrupts = interrupts
        self._is_full = is_full
        self._has_pointer = False
        self._motion = (0, 0)
        self._clock = pygame.time.Clock()
        self._held: list[str] = []
        self._tapped: list[str] = []

    def show(self, playable: Playable) -> None:
        """Show it until the player leaves. Recordings are stored then, also after Ctrl-C or an error."""
        try:
            while self._handle_events(playable):
                playable.tick([key for key in self._tapped if key not in self._held] + self._held, self._motion)
                self._tapped.clear()
                self._motion = (0, 0)
                self._draw(playable)
                self._catch_pointer(playable.wants_pointer)
                self._clock.tick(self._fps)
        finally:
            playable.close()
            self._catch_pointer(False)
            pygame.display.quit()

    def _handle_events(self, playable: Playable) -> bool:
        """Whether the player stays."""
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return False
            if event.type == pygame.WINDOWFOCUSLOST:
                self._held.clear()
            if event.type == pygame.MOUSEMOTION and self._has_pointer:
                self._motion = (self._motion[0] + event.rel[0], self._motion[1] + event.rel[1])
            key = _name(event)
            if key is None:
                continue
            if event.type in (pygame.KEYUP, pygame.MOUSEBUTTONUP):
                self._held = [other for other in self._held if other != key]
            elif key == "escape" or (key == "q" and key not in playable.game_keys):
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
        if self._is_full:
            screen = screen or pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
            screen.fill((0, 0, 0))
        elif screen is None or screen.get_size() != picture.get_size():
            screen = pygame.display.set_mode(picture.get_size())
        left, top = [(whole - part) // 2 for whole, part in zip(screen.get_size(), picture.get_size(), strict=True)]
        screen.blit(picture, (left, top))
        pygame.display.flip()

    def _catch_pointer(self, wanted: bool) -> None:
        if wanted != self._has_pointer:
            # A pointer that is hidden and caught is not stopped by the edge of the screen.
            pygame.event.set_grab(wanted)
            pygame.mouse.set_visible(not wanted)
            pygame.mouse.get_rel()
            self._has_pointer = wanted


def _name(event: pygame.event.Event) -> str | None:
    """What a key or button is called; None for other events."""
    if event.type in (pygame.KEYDOWN, pygame.KEYUP):
        name = pygame.key.name(event.key)
        return KEYPAD.get(name, name)
    if event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP):
        return BUTTONS.get(event.button)
    return None


def open_display(instead: str = "--video FILE.mp4 to make a film of it") -> None:
    """Raises UserError where there is none; `instead` is what it advises to use."""
    no_display = f"There is no display here. Use {instead} instead."
    named = "SDL_VIDEODRIVER" in os.environ
    if sys.platform == "linux" and not named and not ({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        raise UserError(no_display)
    try:
        pygame.display.init()
    except pygame.error:
        raise UserError(no_display) from None
    # Where no other driver works, SDL draws into memory, without a message.
    if pygame.display.get_driver() in ("offscreen", "dummy") and not named:
        pygame.display.quit()
        raise UserError(no_display)


def screen_size() -> tuple[int, int]:
    """Width and height of the whole screen, without the room for a header."""
    open_display()
    width, height = pygame.display.get_desktop_sizes()[0]
    return width, max(1, height - ROOM_FOR_HEADER)
