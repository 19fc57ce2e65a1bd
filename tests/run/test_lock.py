"""Two processes on one folder: one waits its turn, or is told who is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT
from errors import UserError
from run.lock import alone_in

STAY = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(PROJECT / "src")!r})
from run.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("inside", flush=True)
    time.sleep(1000)
"""


def test_the_second_process_is_told_who_is_there(tmp_path: Path) -> None:
    """And a kill releases the lock."""
    other = subprocess.Popen([sys.executable, "-c", STAY, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "inside\n"
    words = rf"{tmp_path} is in use by process {other.pid} on .*: stop it, or wait until it has ended\."
    with pytest.raises(UserError, match=words), alone_in(tmp_path):
        pass
    other.kill()
    other.wait()
    for _ in range(2):
        with alone_in(tmp_path):
            pass
