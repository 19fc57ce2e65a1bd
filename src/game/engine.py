"""The thread that computes. It owns the device, so that front ends stay responsive whatever a frame costs."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from game.inputs import Turn
from game.together import take_turns
from game.view import Playable, View

SECONDS_TO_GATHER = 0.004


@dataclass(frozen=True)
class _Waiting:
    playable: Playable
    next_turn: Callable[[], Turn]
    result: Future[View] = field(default_factory=Future)


@dataclass(frozen=True)
class _Call:
    work: Callable[[], object]
    result: Future = field(default_factory=Future)


class Engine:
    """Lets what is played take its turns, in one thread; those that wait meanwhile are stepped as one batch."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting | _Call] = []
        self._news = threading.Condition()
        self._is_over = False
        # A thread that is still computing when the player leaves must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, playable: Playable, next_turn: Callable[[], Turn]) -> Future[View]:
        """Take a turn as soon as possible; the result is what is seen after it, or the error that it raised.

        `next_turn` is called in the thread that computes, at the last moment: later events count, too.
        """
        return self._put(_Waiting(playable, next_turn))

    def call(self, work: Callable[[], object]) -> Future:
        """Call something in the thread that computes."""
        return self._put(_Call(work))

    def stop(self) -> None:
        """Let the thread end after what it computes now, without waiting for it. Everything else is cancelled."""
        with self._news:
            self._is_over = True
            left, self._waiting = self._waiting, []
            self._news.notify()
        for each in left:
            each.result.cancel()

    def _put(self, item: _Waiting | _Call) -> Future:
        with self._news:
            if self._is_over:
                item.result.cancel()
            else:
                self._waiting.append(item)
                self._news.notify()
        return item.result

    def _work(self) -> None:
        batch: list[_Waiting | _Call] = []
        while batch := self._next_batch(gathers=len(batch) > 1):
            for item in batch:
                if isinstance(item, _Call):
                    _answer(item)
            _take([item for item in batch if isinstance(item, _Waiting)])

    def _next_batch(self, gathers: bool) -> list[_Waiting | _Call]:
        """What waits, as soon as there is something; nothing when the engine is stopped."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._is_over)
        if gathers:
            # Those whose last frames came together ask for the next ones within this time.
            time.sleep(SECONDS_TO_GATHER)
        with self._news:
            batch, self._waiting = self._waiting, []
        return batch


def _take(waiting: Sequence[_Waiting]) -> None:
    turns = take_turns([(each.playable, each.next_turn()) for each in waiting])
    for each, result in zip(waiting, turns, strict=True):
        if isinstance(result, BaseException):
            each.result.set_exception(result)
        else:
            each.result.set_result(result)


def _answer(call: _Call) -> None:
    try:
        call.result.set_result(call.work())
    # Whoever waits for the result handles it.
    except BaseException as error:
        call.result.set_exception(error)
