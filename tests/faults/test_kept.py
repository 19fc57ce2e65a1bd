"""Nothing that the last checkpoint needs is lost, whenever a run is killed."""

import json
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

import runs
from conftest import PROJECT
from run import lock
from training_helpers import train

pytestmark = pytest.mark.slow

SETTINGS = ["evaluation.every=1", "collection.test.num_episodes=3", "collection.train.num_steps_total=40"]
PLANS = {
    "evaluations": [
        (SIGTERM, r"open /dataset/test/\.generation-1/.*/0/\.\d+\.pt", 1),  # a checkpoint inside the first evaluation
        (SIGKILL, r"open /dataset/test/000/", 1),
        (SIGKILL, r"open /dataset/test/\.generation-2/.*/1/\.\d+\.pt", 1),
        (SIGKILL, r"best_epoch", 2),
        (SIGKILL, r"os\.rename /dataset/test/\.generation-2/.*/1/\d+\.pt$", 1),  # after a checkpoint
        (SIGKILL, r"os\.rename /checkpoints/\.best_epoch_00001.pt", 1),
    ],
    "resuming": [(SIGKILL, r"generation-2", 6)] + [(SIGKILL, r"", count) for count in (2, 5, 8)],
    "last epoch": [
        (SIGKILL, r"agent_epoch_00002", 1),
        (SIGKILL, r"agent_epoch_00002", 2),
        (SIGKILL, r"open /dataset/test/\.generation-5/.*/1/", 1),  # the final evaluation
        (SIGKILL, r"os.rename /dataset/test/\.generation-5/.*\.pt$", 3),  # after the last checkpoint
        (SIGKILL, r"os.rename /dataset/test/\.generation-5/.*\.pt$", 1),
    ],
}


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("alone") / "run", *SETTINGS, game=runs.CHASE).folder.path


@pytest.mark.parametrize("name", PLANS)
def test_runs_killed_at_changes_of_files_end_the_same(left_alone: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    path = f"{PROJECT / 'tests'}:{PROJECT / 'src'}:{runs.environment()['PYTHONPATH']}"
    script = PROJECT / "tests" / "faults" / "killed_run.py"
    result = runs.run([sys.executable, script, folder, json.dumps(PLANS[name]), *SETTINGS], PYTHONPATH=path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert runs.content(folder) == runs.content(left_alone)
    assert {path.name for path in folder.rglob(".*")} <= {lock.NAME}  # no unfinished files remain
