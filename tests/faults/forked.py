"""Run many command lines in one go: `python tests/faults/forked.py`, a JSON list [program, arguments...] on each line.

Everything is imported once; each command line then has a process of its own, forked from this one, so that it begins
at once and leaves nothing behind. The answer to each is a line, too: exit code and the two outputs, or null for the
exit code of what was stopped after `LIMIT` seconds.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

LIMIT = 60
PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT / "src"), str(PROJECT / "scripts")]

for program in ("main", "play", "evaluate"):
    importlib.import_module(program)


def serve() -> None:
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


def run(program: str, *arguments: str) -> tuple[int | None, str, str]:
    """The exit code of a program, and what it printed to its two outputs."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            for number, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os._exit(become(program, list(arguments)))
        code = wait(child)
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


def become(program: str, arguments: list[str]) -> int:
    path = next(PROJECT / room / program for room in ("src", "scripts") if (PROJECT / room / program).exists())
    sys.argv = [str(path), *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
        code: Any = 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def wait(child: int) -> int | None:
    """The exit code of a process, or minus the signal that ended it; None if it had to be stopped."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid != 0:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    serve()
