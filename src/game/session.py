"""One person at one thing that can be played: events in, ticks at an even pace, views out."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import torch

from game.engine import Engine
from game.inputs import Event, Inputs
from game.view import Ended, Playable, View

SECONDS_UNTIL_THINKING = 0.5
"""A frame that takes longer than this is announced."""
PATIENCE = 0.05
"""Seconds that leaving waits for the frame that is being computed."""


class Session:
    """Keys, pace and views of one player. No method waits for the networks, except `close`, for `PATIENCE` seconds."""

    def __init__(
        self,
        playable: Playable,
        engine: Engine,
        fps: float,
        tell: Callable[[str], object] = print,
        clock: Callable[[], float] = time.monotonic,
        seconds_of_banner: float = 1.2,
    ) -> None:
        """`tell` gets a line for each episode that ended; `clock` returns seconds."""
        self.playable = playable
        self.fps = fps
        self.inputs = Inputs(playable.repeating_keys)
        self._engine = engine
        self._tell = tell
        self._clock = clock
        self._seconds_of_banner = seconds_of_banner
        self._pending: Future[View] | None = None
        self._news = threading.Event()
        self._begun = -1e9
        self._times: deque[float] = deque(maxlen=64)
        self._last: View | None = None
        self._ended: Ended | None = None
        self._banner_until = -1e9
        self._number = 0

    @property
    def rate(self) -> float:
        """Frames per second over the last two seconds; 0 until there are two frames."""
        now = self._clock()
        times = [each for each in self._times if now - each < 2]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether a tick is under way."""
        return self._pending is not None

    @property
    def is_thinking(self) -> bool:
        """Whether the tick that is under way takes noticeably long."""
        return self._pending is not None and self._clock() - self._begun > SECONDS_UNTIL_THINKING

    @property
    def seconds_until_due(self) -> float:
        """Until the next tick may begin; 0 if it may now."""
        return max(0.0, self._begun + 1 / self.fps - self._clock())

    def take(self, event: Event, sequence: int = 0) -> None:
        """An event; `sequence` is the number that comes back with the view that shows its effect."""
        self.inputs.take(event, sequence)

    def begin(self) -> None:
        """Begin the next tick if it is due and none is under way."""
        now = self._clock()
        if self._pending is not None or self.seconds_until_due > 0:
            return
        # A late tick does not make the following ones hurry.
        due = self._begun + 1 / self.fps
        self._begun = due if now - due < 0.5 / self.fps else now
        self._news.clear()
        self._pending = self._engine.submit(self.playable, self.inputs.next_turn)
        self._pending.add_done_callback(lambda view: self._news.set())

    def wait(self, seconds: float) -> None:
        """Until the tick that is under way is done, or somebody calls `wake`; at most that long."""
        if self._pending is not None:
            self._news.wait(seconds)

    def wake(self) -> None:
        """End a `wait` of another thread."""
        self._news.set()

    def collect(self) -> View | None:
        """The view of the tick that was begun, once; None while it is under way. Raises what the tick raised."""
        if self._pending is None or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        view = pending.result()
        self._number += 1
        self._times.append(self._clock())
        is_new = self._last is None or not _same(view, self._last)
        if view.ended is not None and view.ended != self._ended:
            self._ended, self._banner_until = view.ended, self._clock() + self._seconds_of_banner
            self._tell(view.ended.line)
        self._last = replace(view, number=self._number, frame_changed=is_new)
        return self._last

    @property
    def banner(self) -> str:
        """What is shown for a moment after an episode has ended."""
        shown = self._ended is not None and self._clock() < self._banner_until
        return self._ended.words if shown else ""

    def close(self, patience: float = PATIENCE) -> None:
        """Store what was recorded, also while a frame is being computed.

        That frame is part of it only if it is done within `patience` seconds.
        """
        if self._pending is not None:
            # Its error, if there is one, comes too late to matter.
            with contextlib.suppress(Exception):
                self._pending.result(patience)
        self.playable.close()


def _same(one: View, other: View) -> bool:
    return one.frame is other.frame or (one.frame.shape == other.frame.shape and torch.equal(one.frame, other.frame))
