"""SIGINT and SIGTERM as a request to stop at the next good moment."""

import signal
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop, and has written its checkpoint."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Interrupts:
    """Remembers the first SIGINT or SIGTERM; a second one takes effect at once, as it would without us."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
