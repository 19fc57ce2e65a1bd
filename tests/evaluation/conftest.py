"""SDL's dummy driver, the command line in this process, and a small run that the tests of evaluation share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Before anything opens a display.
os.environ["SDL_VIDEODRIVER"] = "dummy"

import evaluate
from game_runs import make_run
from run.folder import RunFolder

Call = Callable[..., str]


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Untrained networks on 16×16 Breakout, weights of epochs 1 and 3. Only `evaluation.jsonl` is written to it."""
    return make_run(tmp_path_factory.mktemp("evaluation") / "run", steps={})


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Call:
    """`python src/evaluate.py` with these arguments, in this process; returns what it prints."""

    def call(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "--device", "cpu", *map(str, arguments)])
        capfd.readouterr()
        code = evaluate.main()
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return captured.out

    return call


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Call:
    """The one line that a mistake gets, with exit code 2."""

    def complaint(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "--device", "cpu", *map(str, arguments)])
        capfd.readouterr()
        try:
            code = evaluate.main()
        except SystemExit as leaving:
            code = leaving.code
        captured = capfd.readouterr()
        lines = [line for line in captured.err.splitlines() if line.strip()]
        assert code == 2, captured
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return complaint
