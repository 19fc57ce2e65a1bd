"""The thread that computes. It owns the device, so that front ends stay responsive whatever a frame costs."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from game.inputs import Turn
from game.together import take_turns
from game.view import Playable, View

SECONDS_TO_GATHER = 0.004


@dataclass(frozen=True)
class _Waiting:
    playable: Playable
    next_turn: Callable[[], Turn]
    view: Future


class Engine:
    """Lets what is played take its turns, in one thread; those that wait meanwhile are stepped as one batch."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        # A thread that is still computing when the player leaves must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        """Whether something is being computed now."""
        return self._is_busy

    def submit(self, playable: Playable, next_turn: Callable[[], Turn]) -> Future[View]:
        """Take a turn as soon as possible; the result is what is seen after it, or the error that it raised.

        `next_turn` is called in the thread that computes, at the last moment: later events count, too.
        """
        view: Future[View] = Future()
        self._queue.put(_Waiting(playable, next_turn, view))
        return view

    def call(self, work: Callable[[], object]) -> Future:
        """Call something in the thread that computes."""
        result: Future = Future()
        self._queue.put((work, result))
        return result

    def stop(self) -> None:
        """Let the thread end after what it computes now, without waiting for it."""
        self._queue.put(None)

    def _work(self) -> None:
        is_over, batch = False, []
        while not is_over:
            is_alone, batch = len(batch) < 2, [self._queue.get()]
            if not is_alone:
                # Those whose last frames came together ask for the next ones within this time.
                time.sleep(SECONDS_TO_GATHER)
            while not self._queue.empty():
                batch.append(self._queue.get())
            self._is_busy = True
            is_over = None in batch
            for item in batch:
                if isinstance(item, tuple):
                    _answer(*item)
            _take([item for item in batch if isinstance(item, _Waiting)])
            self._is_busy = False


def _take(waiting: Sequence[_Waiting]) -> None:
    turns = take_turns([(each.playable, each.next_turn()) for each in waiting])
    for each, result in zip(waiting, turns, strict=True):
        if isinstance(result, BaseException):
            each.view.set_exception(result)
        else:
            each.view.set_result(result)


def _answer(work: Callable[[], object], result: Future) -> None:
    try:
        result.set_result(work())
    # Whoever waits for the result handles it.
    except BaseException as error:
        result.set_exception(error)
