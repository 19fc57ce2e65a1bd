"""Runs that are stopped or killed at any moment end as if they had not been interrupted."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runs
from conftest import PROJECT
from files import load_tensors
from run.folder import RunFolder

LONGER = [
    "collection.train.num_envs=2",
    "denoiser.training.steps_first_epoch=60",
    "rew_end_model.training.steps_first_epoch=30",
    "actor_critic.training.steps_first_epoch=30",
]
WRITE_ALWAYS = "checkpointing.minutes=0"


@pytest.fixture(scope="module", params=[runs.BREAKOUT, runs.CHASE], ids=["atari", "gym"])
def game(request: pytest.FixtureRequest) -> list[str]:
    return request.param


@pytest.fixture(scope="module")
def left_alone(game: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left_alone") / "run"
    result = runs.train(folder, *LONGER, game=game)
    assert result.returncode == 0, result.stderr
    return folder


def start(folder: Path, game: list[str], *overrides: str) -> subprocess.Popen[str]:
    settings = [*game, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, *LONGER, *overrides, f"hydra.run.dir={folder}"]
    return launch(runs.command(*settings))


def launch(command: list[str | Path]) -> subprocess.Popen[str]:
    environment = {**runs.environment(), "PYTHON": sys.executable}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def resume_to_next_checkpoint(folder: Path) -> subprocess.Popen[str]:
    """Resume, and wait until the run has written its next checkpoint."""
    before = (folder / "checkpoints" / "state.pt").stat().st_mtime_ns
    process = launch([PROJECT / "scripts" / "resume.sh", folder])
    wait_for_checkpoint(folder, process, before)
    return process


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str], later_than: int) -> None:
    state = folder / "checkpoints" / "state.pt"
    while not state.exists() or state.stat().st_mtime_ns <= later_than:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


@pytest.mark.slow
def test_same_settings_same_run(left_alone: Path, game: list[str], tmp_path: Path) -> None:
    again = tmp_path / "run"
    assert runs.train(again, *LONGER, game=game).returncode == 0
    assert runs.content(again) == runs.content(left_alone)


@pytest.mark.slow
def test_stopped_runs_end_the_same(left_alone: Path, game: list[str], tmp_path: Path) -> None:
    """Stopped again and again, each time a little after it started to work, so that it stops in different phases.

    With the default settings, nearly all checkpoints are written because the run is stopped.
    """
    number = signal.SIGTERM if game == runs.BREAKOUT else signal.SIGINT
    folder, rng, stops = tmp_path / "run", random.Random(0), 0
    process = start(folder, game)
    while stops < 4:
        wait_until_at_work(folder, process)
        time.sleep(rng.uniform(0.0, 1.0))
        process.send_signal(number)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 128 + number, output
        assert re.search(rf"Stopped by SIG\w+\. Resume with: .*scripts/resume\.sh {folder}", output), output
        stops += 1
        process = launch([PROJECT / "scripts" / "resume.sh", folder])
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert runs.content(folder) == runs.content(left_alone)


def wait_until_at_work(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has opened its log, which it does after making everything else."""
    before = set((folder / "tensorboard").glob("events*"))
    while not set((folder / "tensorboard").glob("events*")) - before:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_runs_end_the_same(left_alone: Path, game: list[str], tmp_path: Path) -> None:
    """Killed at random moments, every second time in the middle of writing a checkpoint."""
    folder, rng, kills, kills_in_writing = tmp_path / "run", random.Random(0), 0, 0
    process = start(folder, game, WRITE_ALWAYS)
    wait_for_checkpoint(folder, process, later_than=0)
    while kills < 6:
        time.sleep(rng.uniform(0.0, 0.8))
        while kills % 2 and not is_writing(folder) and process.poll() is None:
            pass
        assert process.poll() is None, process.stdout.read()
        process.kill()
        process.communicate()
        kills += 1
        kills_in_writing += is_writing(folder)
        process = resume_to_next_checkpoint(folder)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert kills_in_writing >= 1
    assert runs.content(folder) == runs.content(left_alone)
    assert not list(folder.rglob("*.part"))


def is_writing(folder: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((folder / "checkpoints").glob(".state.pt.*.part"))


@pytest.mark.slow
def test_a_resumed_run_keeps_its_overrides(left_alone: Path, game: list[str], tmp_path: Path) -> None:
    """A finished run is given another epoch, and killed before its next checkpoint. A mistake changes nothing."""
    folder = tmp_path / "run"
    shutil.copytree(left_alone, folder)
    settings = folder / "config" / "trainer.yaml"
    before, num_epochs = settings.read_bytes(), last_epoch(folder)
    assert runs.resume(folder, "agent.actor_critic.lstm_dim=32", "training.num_final_epochs=9").returncode != 0
    assert settings.read_bytes() == before
    longer = f"training.num_final_epochs={RunFolder(folder).load_config().training.num_final_epochs + 1}"
    process = launch([PROJECT / "scripts" / "resume.sh", folder, longer, "denoiser.optimizer.lr=2e-4"])
    while settings.read_bytes() == before:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert last_epoch(folder) == num_epochs
    result = runs.resume(folder)
    assert result.returncode == 0, result.stderr
    assert last_epoch(folder) == num_epochs + 1
    assert runs.metrics(folder)[-1]["epoch"] == num_epochs + 1
    assert RunFolder(folder).load_config().denoiser.optimizer.lr == 2e-4


def last_epoch(folder: Path) -> int:
    """The last epoch that the checkpoint of a run includes."""
    return load_tensors(RunFolder(folder).state)["progress"]["epoch"] - 1


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_begins_again(
    left_alone: Path, game: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = start(folder, game)
    while not (folder / "dataset" / "train" / "000").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (folder / "checkpoints" / "state.pt").exists()
    assert runs.resume(folder).returncode == 0
    assert runs.content(folder) == runs.content(left_alone)


@pytest.mark.slow
def test_a_finished_run_says_so(left_alone: Path) -> None:
    before = runs.content(left_alone)
    result = runs.resume(left_alone)
    assert result.returncode == 0
    assert result.stdout.startswith("This run is finished.\nRun: ")
    assert runs.content(left_alone) == before
    inside = runs.run(["./scripts/resume.sh"], cwd=left_alone, PYTHON=sys.executable)
    assert inside.stdout == result.stdout
