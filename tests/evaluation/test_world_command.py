"""`evaluate.py --world` from the command line, in this process: what it prints and writes, and mistakes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import recordings
from algorithms import read_settings
from data import Actions, Dataset, Episode
from game_runs import copy_run, make_agent, make_run, read_film
from preparation.recordings import write_small_copies
from run.folder import RunFolder
from training_helpers import compose

HORIZON = 3
QUICK = ["--horizon", HORIZON, "--segments", 6, "--samples", 2]
Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Call:
    """Measure worlds with a user's command line; returns what is printed, or the line of a mistake."""

    def call(*arguments: object, code: int = 0) -> str:
        command = ["evaluate.py", "--world", "--device", "cpu", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        assert evaluate.main() == code
        printed = capsys.readouterr()
        if code == 0:
            return printed.out
        lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        return lines[0]

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("worlds") / "run")


@pytest.fixture(scope="module")
def two_stage(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Untrained networks of both stages, without rewards and policy, on recordings with keyboard and mouse."""
    root = tmp_path_factory.mktemp("two_stage")
    for number in range(4):
        recordings.write_hdf5(root / "data" / "full_res" / f"game_{number}.hdf5", 12, seed=number)
    write_small_copies(root / "data" / "full_res", root / "data" / "low_res", recordings.SMALL_SIZE, None, 2)
    config = compose(game=[*recordings.CSGO, f"static_dataset.path={root / 'data'}"], small=())
    folder = RunFolder.create(root / "run", config)
    make_agent(read_settings(config)[1], Actions("multi-hot", recordings.NUM_ACTIONS), 0.05).save(
        folder.agent_version(1)
    )
    return folder


def content(run: RunFolder, version: str = "agent_epoch_00003") -> dict[str, Any]:
    """`world.json`, without what depends on the clock."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    text = (run.path / "evaluation" / version / "world.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found.pop("frames_per_second") > 0
    return found


def test_what_is_printed_and_written(run: RunFolder, call: Call) -> None:
    printed = call(run.path, *QUICK)
    found = content(run)
    assert found["segments"] == found["segments_at_step"][0] == 6
    assert (found["horizon"], found["samples"], found["epoch"], found["seed"]) == (HORIZON, 2, 3, 0)
    assert found["data"] == str(run.dataset("test"))
    names = {"psnr", "psnr_moving", "ssim", "controllability", "value_error", "value_correlation"}
    assert names <= found["metrics"].keys()
    assert list(found["metrics"]["psnr"]) == ["model", "best", "shuffled", "copy"]
    for curves in found["metrics"].values():
        for curve in curves.values():
            assert [len(curve[name]) for name in ("value", "low", "high")] == [HORIZON] * 3
    value = found["metrics"]["psnr"]["model"]["value"]
    row = next(line for line in printed.splitlines() if line.startswith("psnr (dB)"))
    assert row.split() == ["psnr", "(dB)", "model", f"{value[0]:.2f}", f"{value[-1]:.2f}"]
    assert f"Imagined {6 * 3 * HORIZON} frames" in printed
    folder = run.path / "evaluation" / "agent_epoch_00003"
    assert min(Image.open(folder / "world.png").size) > 300
    frames = read_film(folder / "world.mp4")
    # Up to four scenes of three columns, 256 pixels each, with 4 pixels between them.
    assert frames.shape[2] == 3 * 256 + 2 * 4
    assert frames.shape[0] % (2 + HORIZON) == 0


@pytest.mark.slow
def test_equal_seeds_give_equal_files(run: RunFolder, tmp_path: Path, call: Call) -> None:
    folder = copy_run(run, tmp_path / "again")
    call(folder.path, *QUICK, "--epoch", 1)
    first = content(folder, "agent_epoch_00001")
    call(folder.path, *QUICK, "--epoch", 1)
    assert content(folder, "agent_epoch_00001") == first
    call(folder.path, *QUICK, "--epoch", 1, "--seed", 5)
    assert content(folder, "agent_epoch_00001")["metrics"] != first["metrics"]


@pytest.mark.slow
def test_random_episodes_are_the_same_for_every_run(run: RunFolder, tmp_path: Path, call: Call) -> None:
    """They depend on neither the run's data nor its weights, also where there is no test data."""
    other = make_run(tmp_path / "other", "common.seed=9", steps={"train": 30})
    call(run.path, *QUICK, "--data", "random", "--seed", 2)
    some = content(run)
    call(other.path, *QUICK, "--seed", 2)
    same = content(other)
    assert some["data"] == same["data"]
    # Values are of the policy, which has not played them.
    assert "value_error" not in some["metrics"]
    assert some["data"].endswith("random episodes of BreakoutNoFrameskip-v4")
    assert some["metrics"]["psnr"]["copy"] == same["metrics"]["psnr"]["copy"]
    # The data of another run can be named, too.
    call(other.path, *QUICK, "--data", run.path)
    assert content(other)["data"] == str(run.dataset("test"))


@pytest.mark.slow
def test_rollouts_are_saved(run: RunFolder, tmp_path: Path, call: Call) -> None:
    call(run.path, *QUICK, "--save-rollouts", tmp_path / "frames")
    folder = next((tmp_path / "frames").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == [f"segment_{row:03d}" for row in range(6)]
    dataset = Dataset.open(run.dataset("test"))
    for segment in folder.iterdir():
        told = json.loads((segment / "actions.json").read_text())
        episode, start = dataset.load_episode(told["episode"]), told["first_step"]
        assert told["actions"] == episode.act[start : start + len(told["actions"])].tolist()
        numbers = range(-told["context_steps"], len(told["actions"]) + 1 - told["context_steps"])
        assert {path.name for path in segment.glob("real_*")} == {f"real_{number:03d}.png" for number in numbers}
        assert len(list(segment.glob("imagined_*"))) == len(numbers) - told["context_steps"]
        first = np.asarray(Image.open(segment / f"real_{numbers[0]:03d}.png"))
        assert np.array_equal(first, episode.obs[start].permute(1, 2, 0).numpy())
    assert "is not an empty folder" in call(run.path, *QUICK, "--save-rollouts", tmp_path / "frames", code=2)


@pytest.mark.slow
def test_a_world_without_rewards_says_so(two_stage: RunFolder, call: Call) -> None:
    printed = call(two_stage.path, *QUICK, "--data", two_stage.path.parent / "data" / "low_res" / "train")
    assert "This world predicts no rewards and ends: they are left out." in printed
    assert "This agent has no values of discounted signs of rewards: they are left out." in printed
    assert content(two_stage, "agent_epoch_00001")["metrics"].keys() == {
        "psnr",
        "psnr_moving",
        "ssim",
        "controllability",
    }


@pytest.mark.slow
def test_without_actions_nothing_is_controlled(tmp_path: Path, call: Call) -> None:
    """A single channel, no actions, and no policy."""
    size = ["env.train.size=[16,16]", "env.train.grayscale=true", "agent.actor_critic=null"]
    data = tmp_path / "data"
    for split in ("train", "test"):
        dataset, flags = Dataset(data / split), torch.zeros(12, dtype=torch.uint8)
        frames = torch.randint(256, (12, 1, 16, 16), dtype=torch.uint8)
        dataset.add_episode(Episode(frames, torch.zeros(12, 0), flags.float(), flags, flags))
        dataset.save_info()
    config = compose(f"static_dataset.path={data}", *size, game=["env=recorded"])
    folder = RunFolder.create(tmp_path / "run", config)
    make_agent(read_settings(config)[1], Actions("none", 0), 0.05).save(folder.agent_version(1))
    assert "controllability cannot be measured" in call(folder.path, *QUICK)
    metrics = content(folder, "agent_epoch_00001")["metrics"]
    assert "controllability" not in metrics
    assert list(metrics["ssim"]) == ["model", "best", "copy"]


def test_horizons_are_at_most_what_was_recorded(run: RunFolder, call: Call) -> None:
    longest = max(Dataset.open(run.dataset("test")).lengths)
    line = call(run.path, "--horizon", 500, code=2)
    assert f"--horizon 500 is longer than every episode of {run.dataset('test')}: the longest has {longest}" in line
    assert f"Use --horizon {longest - 1} or less" in line


def test_data_must_fit(run: RunFolder, two_stage: RunFolder, tmp_path: Path, call: Call) -> None:
    small = make_run(tmp_path / "small", "env.train.size=12", steps={"test": 20})
    line = call(run.path, *QUICK, "--data", small.path, code=2)
    assert f"The frames in {small.dataset('test')} are (3, 12, 12), but {run.path} imagines (3, 16, 16)" in line
    flags = torch.zeros(9, dtype=torch.uint8)
    dataset = Dataset(tmp_path / "many")
    frames = torch.zeros(9, 3, 16, 16, dtype=torch.uint8)
    dataset.add_episode(Episode(frames, torch.arange(9), flags.float(), flags, flags))
    dataset.save_info()
    line = call(run.path, *QUICK, "--data", tmp_path / "many", code=2)
    assert f"The actions in {tmp_path / 'many'} are numbered (9 of them), but {run.path} was trained with 4" in line
    assert "There is no data set" in call(run.path, *QUICK, "--data", tmp_path / "nowhere", code=2)
    shutil.copytree(tmp_path / "many", tmp_path / "halves" / "train")
    line = call(run.path, *QUICK, "--data", tmp_path / "halves", code=2)
    assert f"--data {tmp_path / 'halves'} has no test data: name {tmp_path / 'halves' / 'train'}" in line


def test_nothing_to_measure_with(two_stage: RunFolder, tmp_path: Path, call: Call) -> None:
    line = call(two_stage.path, *QUICK, code=2)
    assert f"{two_stage.path} has no test data, and csgo cannot be played here" in line
    empty = make_run(tmp_path / "empty", steps={})
    shutil.rmtree(empty.agent_versions)
    assert "has no weights yet" in call(empty.path, *QUICK, code=2)
    model_free = make_run(tmp_path / "model_free", "training.model_free=true", steps={"test": 20})
    line = call(model_free.path, *QUICK, code=2)
    assert f"{model_free.path} was trained without a world model: there is no world to measure." in line
