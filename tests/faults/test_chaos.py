"""Runs that are killed at an operation on their files: before it, or with the file cut in half."""

import os
import re
import sys
from pathlib import Path

import pytest

import runs
from conftest import PROJECT


@pytest.mark.slow
def test_killed_at_file_operations(tmp_path: Path) -> None:
    """ckpt-chaos samples the operations evenly. Each run must resume from its newest checkpoint, and end the same."""
    rooms = [str(PROJECT / room) for room in ("src", "tests")]
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
    path = os.pathsep.join([*rooms, runs.environment()["PYTHONPATH"]])
    chaos = [sys.executable, "-m", "ckpt_chaos", "run", *options, "--", *command]
    result = runs.run(chaos, cwd=tmp_path, timeout=600, PYTHONPATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(re.findall(r"\bPASS\b", result.stdout)) >= 7, result.stdout
    assert not list(tmp_path.glob("work/pt_*/out/**/*.part"))
