"""What both front ends have in common: the same behaviour in a window and through the page's socket."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pygame
import pytest
from websockets.sync.client import ClientConnection

from data import Dataset
from game.build import PlayConfig, build_play_env
from game.play_env import PlayEnv
from game.view import View
from game.window.painter import Painter
from game.window.window import Window
from game_runs import CPU, fields
from run.folder import RunFolder
from run.interrupt import Interrupts
from trained.source import load_source
from web_client import FPS, look_until, say, serving, shown, visit

SECONDS = 60


@dataclass(frozen=True)
class Seen:
    """Values by their labels, the words of state, and what is chosen."""

    fields: dict[str, str]
    status: tuple[str, ...]
    choices: dict[str, Any]


class Hands(Protocol):
    """A person at a front end."""

    def down(self, key: str) -> None: ...

    def up(self, key: str) -> None: ...

    def look_away(self) -> None:
        """Turn to another window, or to another page."""

    def until(self, holds: Callable[[Seen], bool]) -> Seen:
        """What is seen as soon as it holds."""


class Watched:
    """Passes everything on, and keeps the last view."""

    def __init__(self, playable: PlayEnv) -> None:
        self.playable = playable
        self.last: View | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.playable, name)

    def view(self) -> View:
        self.last = self.playable.view()
        return self.last


class AtWindow:
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def down(self, key: str) -> None:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(key)))

    def up(self, key: str) -> None:
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.key.key_code(key)))

    def look_away(self) -> None:
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))

    def until(self, holds: Callable[[Seen], bool]) -> Seen:
        begun = time.monotonic()
        while True:
            view = self._watched.last
            if view is not None:
                seen = Seen(fields(view), view.status, {choice.name: choice.value for choice in view.choices})
                if holds(seen):
                    return seen
                assert time.monotonic() - begun < SECONDS, seen
            time.sleep(0.01)


class AtPage:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._count = 0

    def down(self, key: str) -> None:
        self._say(do="down", key=key)

    def up(self, key: str) -> None:
        self._say(do="up", key=key)

    def look_away(self) -> None:
        self._say(do="blur")
        self._say(do="hidden")

    def until(self, holds: Callable[[Seen], bool]) -> Seen:
        def as_seen(view: dict[str, Any]) -> Seen:
            return Seen(shown(view), tuple(view["status"]), {each["name"]: each["value"] for each in view["choices"]})

        return as_seen(look_until(self._socket, lambda view: holds(as_seen(view)), SECONDS * FPS))

    def _say(self, **message: Any) -> None:
        self._count += 1
        say(self._socket, self._count, **message)


@contextlib.contextmanager
def at_window(playable: PlayEnv) -> Iterator[Hands]:
    watched = Watched(playable)

    def show() -> None:
        Window("test", Painter(64), FPS, Interrupts(), seconds_of_help=0).show(watched)

    thread = threading.Thread(target=show)
    thread.start()
    hands = AtWindow(watched)
    hands.until(lambda seen: True)
    yield hands
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    thread.join(SECONDS)
    assert not thread.is_alive()


@contextlib.contextmanager
def at_page(playable: PlayEnv) -> Iterator[Hands]:
    with serving(lambda number: playable) as url, visit(url) as socket:
        yield AtPage(socket)


@pytest.fixture(params=[at_window, at_page], ids=["window", "page"])
def front(request: pytest.FixtureRequest) -> Callable[[PlayEnv], contextlib.AbstractContextManager[Hands]]:
    return request.param


Front = Callable[[PlayEnv], contextlib.AbstractContextManager[Hands]]


def make(run: Path, **settings: Any) -> PlayEnv:
    config = PlayConfig(env="test", controller="human", seed=3, precision="fp32", **settings)
    return build_play_env(load_source(run, None, False), config, CPU)


def test_a_key_acts_while_it_is_held(shared_run: RunFolder, front: Front) -> None:
    with front(make(shared_run.path)) as hands:
        hands.until(lambda seen: seen.fields["action"] == "NOOP")
        hands.down("d")
        hands.until(lambda seen: seen.fields["action"] == "RIGHT")
        hands.down("a")  # the newer one of two that exclude each other
        hands.until(lambda seen: seen.fields["action"] == "LEFT")
        hands.up("a")
        hands.until(lambda seen: seen.fields["action"] == "RIGHT")
        hands.up("d")
        hands.until(lambda seen: seen.fields["action"] == "NOOP")


def test_keys_choose_the_world_and_who_acts(shared_run: RunFolder, front: Front) -> None:
    with front(make(shared_run.path)) as hands:
        for key, name, value in (("m", "controller", "policy"), ("left", "env", "wm"), ("right", "env", "test")):
            hands.down(key)
            hands.up(key)
            hands.until(lambda seen, name=name, value=value: seen.choices[name] == value)
        hands.until(lambda seen: int(seen.fields["step"]) > 3)
        hands.down("return")
        hands.up("return")
        hands.until(lambda seen: int(seen.fields["step"]) <= 2)


def test_whoever_looks_away_finds_the_game_paused(shared_run: RunFolder, front: Front) -> None:
    with front(make(shared_run.path)) as hands:
        hands.down("d")
        hands.until(lambda seen: seen.fields["action"] == "RIGHT")
        hands.look_away()
        paused = hands.until(lambda seen: "paused" in seen.status)
        hands.down("e")
        hands.up("e")
        # One step, without the key that was held.
        after = hands.until(lambda seen: seen.fields["step"] != paused.fields["step"])
        assert int(after.fields["step"]) == int(paused.fields["step"]) + 1
        assert after.fields["action"] == "NOOP"
        hands.down(".")
        hands.up(".")
        hands.until(lambda seen: "paused" not in seen.status)


def test_what_was_recorded_is_there_after_leaving(shared_run: RunFolder, tmp_path: Path, front: Front) -> None:
    shutil.copytree(shared_run.path, tmp_path / "run")
    with front(make(tmp_path / "run", record=True)) as hands:
        seen = hands.until(lambda seen: int(seen.fields["step"]) >= 4)
        assert "recording" in seen.status
    assert Dataset.open(tmp_path / "run" / "dataset" / "rec_test_H").num_steps >= 4
