"""Handling of SIGINT and SIGTERM: a run stops after the current step."""

import signal
from types import FrameType


class Interrupted(Exception):
    """Raised after a signal, once the run has written its checkpoint."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Interrupts:
    """Records the first SIGINT or SIGTERM. A second one has its default effect."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
