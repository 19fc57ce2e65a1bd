"""Runs that are stopped or killed anywhere end as if they had been left alone."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runs
from conftest import PROJECT

TWO_ENVS = "collection.train.num_envs=2"
WRITE_ALWAYS = "checkpointing.minutes=0"


@pytest.fixture(scope="module", params=[runs.BREAKOUT, runs.CHASE], ids=["atari", "gym"])
def game(request: pytest.FixtureRequest) -> list[str]:
    return request.param


@pytest.fixture(scope="module")
def left_alone(game: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left_alone") / "run"
    result = runs.train(folder, TWO_ENVS, game=game)
    assert result.returncode == 0, result.stderr
    return folder


def start(folder: Path, game: list[str]) -> subprocess.Popen[str]:
    settings = [*game, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, TWO_ENVS, WRITE_ALWAYS, f"hydra.run.dir={folder}"]
    return launch(runs.command(*settings))


def launch(command: list[str | Path]) -> subprocess.Popen[str]:
    environment = {**runs.environment(), "PYTHON": sys.executable}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def go_on(folder: Path) -> subprocess.Popen[str]:
    return launch([PROJECT / "scripts" / "resume.sh", folder])


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


@pytest.mark.slow
def test_same_settings_same_run(left_alone: Path, game: list[str], tmp_path: Path) -> None:
    again = tmp_path / "run"
    assert runs.train(again, TWO_ENVS, game=game).returncode == 0
    assert runs.content(again) == runs.content(left_alone)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_runs_end_the_same(left_alone: Path, game: list[str], tmp_path: Path, number: int) -> None:
    """Stopped again and again, each time a little after it began to work, so that stops fall into every phase."""
    folder, dice = tmp_path / "run", random.Random(int(number))
    process = start(folder, game)
    stops = 0
    wait_for(folder / "checkpoints" / "state.pt", process)
    while process.poll() is None:
        time.sleep(dice.uniform(0.0, 0.5))
        process.send_signal(number)
        output = process.communicate(timeout=120)[0]
        if process.returncode == 0:
            break
        assert process.returncode in (128 + number, -number), output
        if process.returncode == 128 + number and "checkpoint" not in output:
            assert re.search(r"Stopped by SIG\w+\. Resume with: \./scripts/resume\.sh ", output)
        stops += 1
        written = (folder / "checkpoints" / "state.pt").stat().st_mtime_ns
        process = go_on(folder)
        while process.poll() is None and (folder / "checkpoints" / "state.pt").stat().st_mtime_ns == written:
            time.sleep(0.02)
        if stops == 6:
            assert process.wait(timeout=240) == 0
    assert stops >= 3
    assert runs.content(folder) == runs.content(left_alone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_runs_end_the_same(left_alone: Path, game: list[str], tmp_path: Path, seed: int) -> None:
    """Killed at random moments while it writes a checkpoint after every single step."""
    folder, dice = tmp_path / "run", random.Random(seed)
    process = start(folder, game)
    kills = kills_in_writing = 0
    wait_for(folder / "checkpoints", process)
    while process.poll() is None and kills < 8:
        time.sleep(dice.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        kills += 1
        kills_in_writing += any(folder.rglob("*.part"))
        written = _mtime(folder / "checkpoints" / "state.pt")
        process = go_on(folder)
        while process.poll() is None and _mtime(folder / "checkpoints" / "state.pt") == written:
            time.sleep(0.01)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert kills >= 4
    assert kills_in_writing >= 1
    assert runs.content(folder) == runs.content(left_alone)
    assert not list(folder.rglob("*.part"))


def _mtime(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_begins_again(
    left_alone: Path, game: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = [*game, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, TWO_ENVS, f"hydra.run.dir={folder}"]
    process = launch(runs.command(*settings))
    wait_for(folder / "dataset" / "train" / "000", process)
    os.kill(process.pid, signal.SIGKILL)
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
