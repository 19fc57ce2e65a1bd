"""Runs that are killed at an operation on their files: before it, or with the file cut in half."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runs
from conftest import PROJECT


@pytest.mark.slow
def test_killed_at_file_operations(tmp_path: Path) -> None:
    """ckpt-chaos samples the operations evenly. Each run must resume from its newest checkpoint, and end the same."""
    options = [
        *(
            "--checkpoint-glob",
            "{out}/checkpoints/agent_versions/agent_epoch_*.pt",
            "--step-regex",
            r"Resuming at epoch (\d+)",
        ),
        *("--result-file", "{out}/checkpoints/agent_versions/agent_epoch_00002.pt", "--work", tmp_path / "work"),
        *("--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK", "--max-points", "6", "--jobs", "2"),
    ]
    command = [sys.executable, PROJECT / "tests" / "faults" / "tiny_run.py", "{out}"]
    chaos = [sys.executable, "-m", "ckpt_chaos", "run", *options, "--", *command]
    result = runs.run(chaos, cwd=tmp_path, timeout=600, PYTHONPATH=python_path())
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"\bPASS\b", result.stdout)) >= 7, result.stdout
    assert not list(tmp_path.glob("work/pt_*/out/**/*.part"))


@pytest.mark.slow
def test_killed_at_every_file_operation(tmp_path: Path) -> None:
    """The injector of ckpt-chaos at each operation, in forks of two processes: see `every_operation.py`."""
    script, env = (
        PROJECT / "tests" / "faults" / "every_operation.py",
        {**runs.environment(), "PYTHONPATH": python_path()},
    )
    commands = [[sys.executable, script, tmp_path / str(share), str(share), "2"] for share in range(2)]
    processes = [subprocess.Popen(each, env=env, stdout=subprocess.PIPE, text=True) for each in commands]
    lines = [line for process in processes for line in process.communicate(timeout=1800)[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0], lines
    assert not [line for line in lines if not line.startswith("PASS ")]
    # Each file that a checkpoint consists of, in both ways.
    for words in ("torn", "before"):
        for name in ("state.pt", "agent_epoch_00002.pt", "best_epoch_00002.pt", "info.pt", "0.pt", "trainer.yaml"):
            assert any(words in line and name in line for line in lines), (words, name)
    assert len(lines) > 60


def python_path() -> str:
    rooms = [str(PROJECT / room) for room in ("src", "tests", "tests/faults")]
    return os.pathsep.join([*rooms, runs.environment()["PYTHONPATH"]])
