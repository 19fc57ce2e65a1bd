"""What all tests of training share."""

import signal
from collections.abc import Iterator

import pytest

from run.interrupt import SIGNALS


@pytest.fixture(autouse=True)
def _signals_come_back() -> Iterator[None]:
    """A trainer listens to signals until its process ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
