"""Signals as they arrive at one process: alone, twice, as a pair, and with the end of a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from conftest import PROJECT
from run.door import explain
from run.interrupt import SECONDS_OF_ONE_STOP, SIGNALS, Interrupts, stop_at_once

LISTEN = f"""
import os, signal, sys, time
sys.path.insert(0, {str(PROJECT / "src")!r})
from run.interrupt import Interrupts
interrupts = Interrupts()
interrupts.listen()
print("listening", flush=True)
while interrupts.received is None:
    time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def _signals_come_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("pair", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)])
def test_signals_of_one_stop_count_once(pair: tuple[int, int], capfd: pytest.CaptureFixture) -> None:
    """Ctrl-C reaches the whole group, and a launcher passes it on as another signal, at the same time."""
    interrupts = Interrupts()
    interrupts.listen()
    signal.pthread_sigmask(signal.SIG_BLOCK, pair)
    for number in (*pair, *pair):
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, pair)
    assert interrupts.received in pair
    assert capfd.readouterr().err == ""


def test_a_later_signal_stops_at_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    interrupts, patient = Interrupts(), Interrupts(is_patient=True)
    for each in (patient, interrupts):
        each.listen()
        signal.raise_signal(signal.SIGTERM)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SECONDS_OF_ONE_STOP + 1)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    patient.listen()
    signal.raise_signal(signal.SIGINT)
    assert patient.received == interrupts.received == signal.SIGTERM
    stop_at_once()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        assert explain(lambda number=number: signal.raise_signal(number), "Stopped.") == code
        assert capfd.readouterr().err == "\nStopped.\n"


def test_a_closed_terminal_ends_no_step() -> None:
    """SIGHUP comes with a terminal that cannot be written to any more."""
    work = "print('x' * 9, flush=True); print('y', file=sys.stderr, flush=True); sys.exit(128 + interrupts.received)"
    ours, theirs = pty.openpty()
    terminal = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    claim = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    process = subprocess.Popen([sys.executable, "-c", claim + LISTEN + work], **terminal)
    os.close(theirs)
    assert b"listening" in os.read(ours, 1000)
    os.close(ours)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP


def test_nohup_is_respected() -> None:
    end = "print('received', interrupts.received, flush=True)"
    command = ["nohup", sys.executable, "-c", LISTEN + end]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "listening\n"
    for number in (signal.SIGHUP, signal.SIGTERM):
        process.send_signal(number)
    assert process.communicate(timeout=60)[0] == "received 15\n"
