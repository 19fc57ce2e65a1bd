"""Handling of SIGINT, SIGTERM and SIGHUP: a run stops after the current step."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_OF_ONE_STOP = 2.0
"""A stop can arrive as several signals: Ctrl-C reaches the whole process group, and launchers pass it on."""


class Interrupted(Exception):
    """Raised after a signal, once the run has written its checkpoint."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Interrupts:
    """Records the first signal. A later one raises KeyboardInterrupt, which stops the process at once.

    With `is_patient`, later signals have no effect: no rank of several may leave before the others. `pass_on` is called
    with the number of the first signal.
    """

    def __init__(self, is_patient: bool = False, pass_on: Callable[[int], None] | None = None) -> None:
        self.received: int | None = None
        self._is_patient = is_patient
        self._pass_on = pass_on
        self._when = 0.0
        self._terminals: list[int] = []

    def listen(self) -> None:
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        _handle_signals(self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminals()
        if self.received is None:
            self.received, self._when = number, time.monotonic()
            if self._pass_on is not None:
                self._pass_on(number)
        elif not self._is_patient and time.monotonic() - self._when > SECONDS_OF_ONE_STOP:
            raise KeyboardInterrupt(number)

    def _leave_terminals(self) -> None:
        """After a terminal was closed, writing to it would fail."""
        for stream in self._terminals:
            if not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)


def stop_at_once() -> None:
    """Let the signals raise KeyboardInterrupt, with their number, until something listens to them."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    _handle_signals(leave)


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        # `nohup` ignores SIGHUP, so that the process outlives its terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
