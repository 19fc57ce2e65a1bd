"""The players, each with a session of its own, and who watches them."""

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass

from errors import UserError
from game.engine import Engine
from game.inputs import Event
from game.session import PATIENCE, Session
from game.view import Playable, View

SECONDS_OF_MESSAGE = 4
SECONDS_BETWEEN_SIGNS = 0.25
"""How often a slow frame is announced as `thinking`."""


@dataclass(frozen=True)
class Sight:
    """What is to be seen now; `version` grows with every change."""

    version: int
    view: View
    rate: float
    fps: float
    banner: str
    message: str
    is_thinking: bool


class Player:
    """A session that plays by itself, in a thread that paces it; others wait for what is to be seen."""

    def __init__(self, number: int, playable: Playable, engine: Engine, fps: float, run: str = "") -> None:
        self.number = number
        self.run = run
        self.playable = playable
        self._session = Session(playable, engine, fps, tell=lambda line: print(f"Player {number}: {line}", flush=True))
        self._news = threading.Condition()
        self._sight: Sight | None = None
        self._leaving = threading.Event()
        self._message, self._until = "", 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._play, name=f"player {number}", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._leaving.is_set()

    def take(self, event: Event, sequence: int) -> None:
        with self._lock:
            self._session.take(event, sequence)

    def set_rate(self, fps: int) -> None:
        self._session.fps = fps

    def say(self, message: str) -> None:
        """Show a message for a moment."""
        self._message, self._until = message, time.monotonic() + SECONDS_OF_MESSAGE

    def wait(self, version: int, seconds: float) -> Sight | None:
        """What is to be seen, if it is newer than that version within this time."""
        with self._news:
            self._news.wait_for(lambda: self._is_new(version) or self.is_over, seconds)
            return self._sight if self._is_new(version) else None

    def leave(self) -> None:
        """Stop playing, without waiting for the frame that is being computed."""
        self._leaving.set()
        self._session.wake()
        with self._news:
            self._news.notify_all()

    def close(self, patience: float = PATIENCE) -> None:
        """Leave. What was recorded is stored, without a frame that takes longer than `patience` seconds."""
        self.leave()
        if threading.current_thread() is not self._thread:
            self._thread.join(2)
        self._session.close(patience)

    def _is_new(self, version: int) -> bool:
        return self._sight is not None and self._sight.version > version

    def _play(self) -> None:
        view = None
        while not self.is_over:
            with self._lock:
                self._session.begin()
            if not self._session.is_waiting:
                self._leaving.wait(self._session.seconds_until_due)
                continue
            self._session.wait(SECONDS_BETWEEN_SIGNS)
            try:
                view = self._session.collect() or view
            except UserError as error:
                self.say(str(error))
            except CancelledError:
                # The server was stopped.
                self._leaving.set()
            # The other players go on; this one sees what happened, and the terminal has the details.
            except Exception:
                traceback.print_exc()
                self.say("Something went wrong: the terminal of the server has the details.")
                self._leaving.set()
            if view is not None and (not self._session.is_waiting or self._session.is_thinking):
                self._publish(view)

    def _publish(self, view: View) -> None:
        session, message = self._session, self._message if time.monotonic() < self._until else ""
        with self._news:
            version = 1 if self._sight is None else self._sight.version + 1
            self._sight = Sight(version, view, session.rate, session.fps, session.banner, message, session.is_thinking)
            self._news.notify_all()


class Hall:
    """Gives visitors seats, as long as there are any; the others watch the first player."""

    def __init__(
        self,
        open_player: Callable[[int], Playable],
        engine: Engine,
        fps: float,
        num_seats: int,
        runs: Mapping[str, Callable[[int], Playable]] | None = None,
    ) -> None:
        """`open_player(number)` makes what a new player plays; `runs` are other openers, by names to choose from."""
        self.runs = dict(runs or {})
        self._open_player = open_player
        self._engine = engine
        self._fps = fps
        self._num_seats = num_seats
        self._players: list[Player] = []
        self._count = 0
        self._num_coming = 0
        self._is_closed = False
        self._lock = threading.Lock()

    def sit_down(self) -> Player | None:
        """A new player; None if every seat is taken. Nobody else waits while its world is opened."""
        with self._lock:
            if self._is_closed or len(self._players) + self._num_coming >= self._num_seats:
                return None
            self._num_coming += 1
        player = None
        try:
            player = self._open(self._open_player, next(iter(self.runs), ""))
        finally:
            with self._lock:
                self._num_coming -= 1
                if player is not None:
                    self._players.append(player)
        return player

    def move(self, player: Player, run: str) -> Player:
        """Let a player play another run, in the same seat; raises UserError if that cannot be opened."""
        if run not in self.runs:
            raise UserError(f"There is no run {run}.")
        new = self._open(self.runs[run], run)
        with self._lock:
            if player in self._players:
                self._players[self._players.index(player)] = new
        player.close()
        return new

    def _open(self, open_player: Callable[[int], Playable], run: str) -> Player:
        with self._lock:
            number, self._count = self._count, self._count + 1
        # Opening a world runs its networks.
        playable = self._engine.call(lambda: open_player(number)).result()
        return Player(number + 1, playable, self._engine, self._fps, run)

    def first(self) -> Player | None:
        """Whom to watch."""
        with self._lock:
            return self._players[0] if self._players else None

    def stand_up(self, player: Player) -> None:
        player.close()
        with self._lock:
            if player in self._players:
                self._players.remove(player)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            players, self._players = self._players, []
        for player in players:
            player.leave()
        # All of them wait for the same thread.
        until = time.monotonic() + PATIENCE
        for player in players:
            player.close(max(0.0, until - time.monotonic()))
