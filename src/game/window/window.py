"""The window: pygame's events in, pictures out."""

import os
import sys

import pygame

from errors import UserError
from game.engine import Engine
from game.inputs import Event, FocusLost, KeyDown, KeyUp, Moved, Pause
from game.key_names import BUTTONS
from game.session import Session
from game.view import Field, Playable, View
from game.window.painter import BACKGROUND, Overlay, Painter
from run.interrupt import Interrupts

ROOM_FOR_HEADER = 120
POLLS = 120
"""Times a second that keys are looked at, and the picture is renewed if it changed."""
HELP_KEYS = ("h", "f1", "?")
KEYS = (("Tab", "details"), ("h F1 ?", "these keys"), ("Esc q", "leave"))
"""The keys of every window."""
INSTEAD = "--web to play in a browser (over SSH: ssh -L 8000:localhost:8000), or --video FILE.mp4 to make a film"
KEYPAD = {"enter": "return", **{f"[{digit}]": str(digit) for digit in range(10)}}


class Window:
    """A window as large as its picture, or the whole screen with the picture in its middle.

    Where the mouse is wanted, the pointer is caught: only its motion counts, times `sensitivity`. What is played is
    computed in a thread of its own, so the window answers at once whatever a frame costs. Raises UserError without a
    display.
    """

    def __init__(
        self,
        title: str,
        painter: Painter,
        fps: float,
        interrupts: Interrupts,
        is_full: bool = False,
        sensitivity: float = 1.0,
        seconds_of_help: float = 4,
        seconds_of_banner: float = 1.2,
    ) -> None:
        open_display()
        pygame.display.set_caption(title)
        pygame.key.set_repeat(350, 50)
        self._painter = painter
        self._fps = fps
        self._interrupts = interrupts
        self._is_full = is_full
        self._sensitivity = sensitivity
        self._seconds_of_banner = seconds_of_banner
        self._has_pointer = False
        self._clock = pygame.time.Clock()
        self._help_until = pygame.time.get_ticks() + 1000 * seconds_of_help
        self._shows_help = False
        self._drawn: tuple[int, Overlay] | None = None

    def show(self, playable: Playable) -> None:
        """Show it until the player leaves. Recordings are stored then, also after Ctrl-C or an error."""
        engine = Engine()
        session = Session(playable, engine, self._fps, seconds_of_banner=self._seconds_of_banner)
        try:
            shown = None
            # What is to be seen last is shown, too.
            while self._handle_events(session) and (session.is_waiting or not playable.is_over):
                session.begin()
                shown = self._wait(session, shown)
        finally:
            try:
                session.close()
            finally:
                self._catch_pointer(False)
                pygame.display.quit()
                engine.stop()

    def _wait(self, session: Session, shown: View | None) -> View | None:
        """Until the next poll, or the next view if it is sooner."""
        self._clock.tick(min(POLLS, self._fps * 4))
        view = session.collect() or shown
        if view is not None:
            self._draw(view, session)
            self._catch_pointer(view.wants_pointer)
        return view

    def _handle_events(self, session: Session) -> bool:
        """Whether the player stays."""
        game_keys = session.playable.game_keys
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                return False
            if event.type == pygame.VIDEORESIZE and not self._is_full:
                self._painter.resize(event.size)
            if event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                self._drawn = None
            if event.type == pygame.MOUSEMOTION and not self._has_pointer:
                continue
            translated = translate(event, self._sensitivity)
            if isinstance(translated, KeyDown):
                if translated.key == "escape" or (translated.key == "q" and "q" not in game_keys):
                    return False
                if translated.key not in game_keys and translated.key not in session.inputs.held:
                    self._change_what_is_shown(translated.key)
            if translated is not None:
                session.take(translated)
            if isinstance(translated, FocusLost):
                session.take(Pause())
        return self._interrupts.received is None

    def _change_what_is_shown(self, key: str) -> None:
        if key in HELP_KEYS:
            self._shows_help = not (self._shows_help or self._is_helping)
            self._help_until = 0
        if key == "tab":
            self._painter.shows_details = not self._painter.shows_details
            self._drawn = None

    @property
    def _is_helping(self) -> bool:
        return self._shows_help or pygame.time.get_ticks() < self._help_until

    def _draw(self, view: View, session: Session) -> None:
        """Draw what changed: nothing is drawn twice, as that would take time from the frames."""
        thinking = ("thinking",) if session.is_thinking else ()
        keys = (*session.playable.help, *KEYS) if self._is_helping else ()
        overlay = Overlay(thinking, session.banner, keys)
        if (view.number, overlay) == self._drawn:
            return
        self._drawn = view.number, overlay
        rate = Field("fps", session.rate, 13, ".1f", f"/{self._fps:g}")
        picture = self._painter.paint(view, rate, overlay=overlay)
        screen = pygame.display.get_surface()
        if self._is_full:
            screen = screen or pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
            screen.fill((0, 0, 0))
        elif screen is None or (screen.get_size() != picture.get_size() and not self._painter.is_resized):
            screen = pygame.display.set_mode(picture.get_size(), pygame.RESIZABLE)
        elif self._painter.is_resized:
            screen.fill(BACKGROUND)
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


def translate(event: pygame.event.Event, sensitivity: float = 1.0) -> Event | None:
    """What an event of pygame is for a session; None for those that mean nothing to it."""
    if event.type == pygame.WINDOWFOCUSLOST:
        return FocusLost()
    if event.type == pygame.MOUSEMOTION:
        return Moved(event.rel[0] * sensitivity, event.rel[1] * sensitivity)
    if event.type in (pygame.KEYDOWN, pygame.KEYUP):
        name = pygame.key.name(event.key)
        key = "?" if getattr(event, "unicode", "") == "?" else KEYPAD.get(name, name)
        return KeyDown(key) if event.type == pygame.KEYDOWN else KeyUp(key)
    if event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP) and event.button in BUTTONS:
        key = BUTTONS[event.button]
        return KeyDown(key) if event.type == pygame.MOUSEBUTTONDOWN else KeyUp(key)
    return None


def open_display(instead: str = INSTEAD) -> None:
    """Raises UserError where there is none; `instead` is what it advises to use."""
    no_display = f"There is no display here. Use {instead}."
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
