"""An algorithm outside of `src/` is trained, killed, resumed, tested and played."""

import random
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

import pytest

import pixel_game
import runs
from conftest import PROJECT
from data import Dataset
from files import load_tensors
from run.log import read_metrics

CONFIG = Path(__file__).parent / "config"
SETTINGS = [
    "--config-dir",
    CONFIG,
    "algorithm=reinforce",
    *runs.CHASE,
    "collection.train.num_envs=4",
    "collection.train.num_steps_total=3000",
    "collection.train.first_epoch.min=1000",
    "collection.train.first_epoch.max=1000",
    "collection.train.steps_per_epoch=500",
    "collection.test.num_envs=4",
    "collection.test.num_episodes=8",
    "collection.test.num_final_episodes=20",
    "training.num_final_epochs=0",
    "training.compile=false",
    "evaluation.every=2",
    "common.device=cpu",
    "common.seed=1",
]


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reinforce") / "run"
    result = runs.run(runs.command(*SETTINGS, f"hydra.run.dir={folder}"))
    assert result.returncode == 0, result.stderr
    return folder


def test_it_trains_at_its_ratio(left_alone: Path) -> None:
    lines = read_metrics(left_alone / "metrics.jsonl")
    steps = [line["collection/train/num_steps"] for line in lines if "collection/train/num_steps" in line]
    episodes = [line["collection/train/num_episodes"] for line in lines if "collection/train/num_steps" in line]
    updates = [line["policy/train/num_updates"] for line in lines if "policy/train/num_updates" in line]
    assert steps == [1000, 1500, 2000, 2500, 3000]
    # An episode has one more observation than steps, and the first update is due at the first one.
    observations = [count + over for count, over in zip(steps, accumulate(episodes), strict=True)]
    assert updates == [1 + (count - 1) // 4 for count in observations]
    assert all(line["time/policy/updates_per_second"] > 0 for line in lines if "time/policy/updates_per_second" in line)
    assert sum("time/policy/updates_per_second" in line for line in lines) == 5
    assert Dataset.open(left_alone / "dataset" / "train").num_steps == 3000


def test_it_is_tested(left_alone: Path) -> None:
    lines = read_metrics(left_alone / "metrics.jsonl")
    epochs = [line["epoch"] for line in lines if "collection/test/return_mean" in line]
    assert epochs == [0, 2, 4, 5]
    final = [line for line in lines if "collection/final/return_mean" in line]
    assert final[0]["collection/final/num_episodes"] == 20
    assert (left_alone / "checkpoints" / "best.pt").is_file()


def test_it_learns(left_alone: Path) -> None:
    """A policy that learnt nothing passes in one of 700 runs; the random return is known to about 0.04."""
    final = [line for line in read_metrics(left_alone / "metrics.jsonl") if "collection/final/return_mean" in line][-1]
    error = final["collection/final/return_std"] / 20**0.5
    random_return = pixel_game.mean_random_return(500, seed=0)
    assert final["collection/final/return_mean"] > random_return + 3 * error


def test_its_column_and_its_average_are_part_of_the_state(left_alone: Path) -> None:
    state = load_tensors(left_alone / "checkpoints" / "state.pt")
    visits = load_tensors(left_alone / "checkpoints" / state["columns"])[0]["visits"]
    assert visits.shape == (3000,)
    assert visits.sum() > 3000
    slow, fast = (state["agent"][f"{name}.linear.weight"] for name in ("average", "policy"))
    assert 0 < (slow - fast).norm() < 0.2 * fast.norm()


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(left_alone: Path, tmp_path: Path) -> None:
    folder, rng, kills = tmp_path / "run", random.Random(0), 0
    state = folder / "checkpoints" / "state.pt"
    command = runs.command(*SETTINGS, "checkpointing.minutes=0.002", f"hydra.run.dir={folder}")
    while kills < 5:
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = launch(command)
        while not state.exists() or state.stat().st_mtime_ns <= before:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        command = [PROJECT / "scripts" / "resume.sh", folder]
    assert kills >= 3
    assert runs.resume(folder).returncode == 0
    assert runs.content(folder) == runs.content(left_alone)


def launch(command: list[str | Path]) -> subprocess.Popen[str]:
    environment = {**runs.environment(), "PYTHON": sys.executable}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--env", "test"], ["--env", "train", "--controller", "random"], ["-d"]])
def test_it_is_played(left_alone: Path, tmp_path: Path, options: list[str]) -> None:
    film = tmp_path / "film.mp4"
    play = [sys.executable, PROJECT / "src" / "play.py", "--run", left_alone, "--device", "cpu", "--trust"]
    result = runs.run([*play, "--video", film, "--steps", "10", *options], SDL_VIDEODRIVER="dummy")
    assert result.returncode == 0, result.stderr
    assert film.is_file()
    offered = runs.run([*play, "--video", film, "--env", "wm"], SDL_VIDEODRIVER="dummy")
    assert "--env wm does not exist for this run: it has test, train." in offered.stderr


def test_the_project_does_not_know_it() -> None:
    found = subprocess.run(["git", "grep", "-il", "reinforce:\\|ReinforceConfig", "--", "src", "config"], cwd=PROJECT)
    assert found.returncode == 1


@pytest.mark.slow
def test_unknown_algorithms_are_one_line(tmp_path: Path) -> None:
    for name, words in (
        (
            "diamnd",
            "algorithm.name=diamnd is unknown: there is diamond, dreamer, ddqn, ppo, sac, or module:NAME. "
            "Did you mean diamond?",
        ),
        ("nowhere:X", "algorithm.name=nowhere:X cannot be imported: No module named 'nowhere'."),
        ("reinforce:Reinforce", "is not an algorithm: reinforce has no Definition named Reinforce."),
    ):
        result = runs.run(runs.command(*SETTINGS, f"algorithm.name={name}", f"hydra.run.dir={tmp_path}"))
        assert result.returncode == 2
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
