"""Every mistake of a user gets one clear line and exit code 2, from the real command line."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main
import runs
from conftest import PROJECT
from errors import UserError
from run.door import explain
from run.lock import alone_in
from training_helpers import make_trainer

pytestmark = pytest.mark.slow


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error."""
    assert result.returncode == 2, result.stdout + result.stderr
    return one_line(result.stderr)


def one_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    assert len(lines) == 1, words
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Train with a user's command line in this process, which saves starting another; returns the error message."""

    def call(folder: Path, *overrides: str, game: list[str] = runs.BREAKOUT) -> str:
        settings = [*game, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, *overrides, f"hydra.run.dir={folder}"]
        monkeypatch.setattr(sys, "argv", ["main.py", *settings])
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            sys.exit(explain(main.main, main.NOTHING_YET))
        return one_line(capfd.readouterr().err)

    return call


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("env.train.id=BreakoutNoFrameskp-v4", "Did you mean BreakoutNoFrameskip-v4"),
        ("common.device=gpu", "common.device=gpu is unknown"),
        ("training.precision=half", "training.precision=half is unknown: use auto, bf16, fp16 or fp32"),
        ("training.compile=maybe", "training.compile=maybe is unknown: use auto, true or false"),
        ("trainig.model_free=true", "trainig"),
        ("agent=null", "Config group override must be a string or a list"),
        ("=3", "Config group override must be a string or a list"),
        ("denoiser.training.batch_sise=3", "batch_sise"),
        ("env=mujoco", "mujoco"),
        ("denoiser.training.batch_size=many", "batch_size='many' should be of type int"),
        ("collection.train.first_epoch.min=50", "first_epoch.min=50 is larger than its max=40"),
        ("evaluation.every=0", "evaluation.every=0 must be at least 1"),
        ("world_model_env.num_batches_to_preload=3", "num_batches_to_preload=3 is too few"),
        ("agent.denoiser._target_=os.system", "agent.denoiser._target_: os.system is not allowed"),
        ("wandb.mode=on", "wandb.mode=on is unknown"),
        ("static_dataset.path=nowhere", "There is no data set"),
        ("initialization.path_to_ckpt=nowhere.pt", "There is no file"),
        ("+experiment=quick", "quick"),
        ("not an override", "not an override"),
        ("common=null", "common=null is not a section of settings"),
        ("initialization=null", "initialization=null is not a section of settings"),
        ("rew_end_model=null", "rew_end_model=null should be of type RewEndSection"),
        ("denoiser.optimizer.lr=-1", "denoiser.optimizer.lr=-1 must be above 0 and at most 1e6"),
        ("common.seed=-1", "common.seed=-1 must be at least 0 and at most 2147483647"),
        ("common.seed=abc", "common.seed='abc' should be of type int"),
        ("common.device=null", "common.device=null should be of type str"),
        ("common.device=cpu:3", "common.device=cpu:3 is not supported"),
        ("training.replay_device=cpu:3", "training.replay_device=cpu:3 is not supported"),
        ("static_dataset.path='~nobody/data'", "There is no data set"),
    ],
)
def test_bad_settings(tmp_path: Path, call: Callable[..., str], override: str, words: str) -> None:
    assert words in call(tmp_path / "run", override)


def test_unknown_choices_are_named_without_the_places_that_were_searched(
    tmp_path: Path, call: Callable[..., str]
) -> None:
    line = call(tmp_path / "run", "world_model_env=nope")
    for words in ("world_model_env/nope", "fast", "higher_quality"):
        assert words in line
    assert "earch path" not in line
    assert "provider=" not in line


@pytest.mark.parametrize("env_id", [":x", "x:", ".x:y", "", "a/b/c"])
def test_bad_environment_ids(tmp_path: Path, call: Callable[..., str], env_id: str) -> None:
    assert "env.train.id=" in call(tmp_path / "run", game=["env=gym", f"env.train.id='{env_id}'", "env.train.size=16"])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "x"}, "RANK=x is not a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE=two is not a whole number"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "-1"}, "LOCAL_RANK=-1 is not a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 must be below WORLD_SIZE=2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR"),
    ],
)
def test_bad_ranks(
    tmp_path: Path,
    call: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: str,
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert words in call(tmp_path / "run")


@pytest.mark.parametrize("zeros", [torch.zeros, np.zeros])
def test_too_little_memory(capfd: pytest.CaptureFixture, zeros: Callable[..., Any]) -> None:
    """More than any address space has."""
    assert explain(lambda: len(zeros(10**16)), "") == 2
    assert "There is not enough memory" in one_line(capfd.readouterr().err)


def test_other_errors_are_no_mistakes_of_the_user() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        explain(lambda: len(torch.zeros(2, 3) @ torch.zeros(2, 3)), "")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("common.device=null", "common.device=null should be of type str"),
        ("common=null", "common=null is not a section of settings"),
        ("denoiser.optimizer.lr=-1", "denoiser.optimizer.lr=-1 must be above 0"),
    ],
)
def test_bad_settings_on_resume(tmp_path: Path, override: str, words: str) -> None:
    folder = make_trainer(tmp_path / "run").folder.path
    with pytest.raises(UserError, match=words):
        main.resume([str(folder), override])


def test_weights_that_are_not_numbers(tmp_path: Path, call: Callable[..., str]) -> None:
    weights = make_trainer(tmp_path / "other").algorithm.agent.state_dict()
    weights["denoiser.inner_model.conv_in.bias"][3] = float("nan")
    path = tmp_path / "agent.pt"
    torch.save(weights, path)
    words = call(tmp_path / "run", f"initialization.path_to_ckpt={path}")
    assert f"{path} is unusable: denoiser.inner_model.conv_in.bias has values that are infinite or not a" in words


def test_no_gpu(tmp_path: Path, call: Callable[..., str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for name in ("cuda:0", "all"):
        words = call(tmp_path / "run", f"common.device={name}")
        assert f"common.device={name}, but PyTorch sees no CUDA GPU here" in words


def test_too_small_a_gpu_number(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    assert "there are only" in complaint(runs.train(tmp_path / "run", "common.device=cuda:99"))


def test_gym_without_id(tmp_path: Path) -> None:
    """In a process of its own, as users call it."""
    result = runs.train(tmp_path / "run", game=["env=gym"])
    assert "env.train.id" in complaint(result)


def test_foreign_checkpoint(tmp_path: Path, call: Callable[..., str]) -> None:
    path = tmp_path / "agent.pt"
    torch.save({"denoiser.other": torch.zeros(1)}, path)
    words = call(tmp_path / "run", f"initialization.path_to_ckpt={path}")
    assert "does not fit this agent: it lacks denoiser." in words
    torch.save({"rew_end_model.other": torch.zeros(1)}, path)
    words = call(tmp_path / "run2", f"initialization.path_to_ckpt={path}")
    assert "has no weights of the denoiser" in words
    path.write_text("not a checkpoint")
    words = call(tmp_path / "run3", f"initialization.path_to_ckpt={path}")
    assert "is damaged" in words or "is refused" in words


def test_empty_static_dataset(tmp_path: Path, call: Callable[..., str]) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    assert "is empty" in call(tmp_path / "run", f"static_dataset.path={tmp_path / 'data'}")


def test_resume_without_a_run(tmp_path: Path) -> None:
    result = runs.resume(tmp_path)
    assert "there is no run here" in complaint(result)
    result = runs.run(runs.command("--resume", tmp_path))
    assert "is not a run folder" in complaint(result)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert runs.train(folder).returncode == 0
    return folder


def test_folder_in_use(finished: Path, call: Callable[..., str]) -> None:
    assert "already holds a run. Resume it with" in call(finished)


def test_imagination_by_name_from_a_runs_own_code(finished: Path, tmp_path: Path) -> None:
    play = [sys.executable, finished / "src" / "play.py", "--run", finished, "--device", "cpu", "--steps", "2"]
    film = tmp_path / "film.mp4"
    result = runs.run([*play, "--video", film, "world_model_env=fast"])
    assert result.returncode == 0, result.stderr
    assert film.is_file()
    words = complaint(runs.run([*play, "--video", film, "world_model_env=fats"]))
    known = "default, fast, higher_quality, respaced, respaced_10"
    assert f"world_model_env=fats is unknown: there is {known}. Did you mean fast?" in words


def test_folder_that_another_process_trains_in(finished: Path, tmp_path: Path, call: Callable[..., str]) -> None:
    """Reading needs no lock."""
    with alone_in(tmp_path / "run"):
        assert f"{tmp_path / 'run'} is in use by process " in call(tmp_path / "run")
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    with alone_in(folder):
        assert runs.resume(folder).stdout.startswith("This run is finished.")
        unfinish(folder)
        assert f"{folder} is in use by process " in complaint(runs.resume(folder))


def test_damaged_state(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    state = folder / "checkpoints" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    assert f"{state} is damaged" in complaint(runs.resume(folder))


def test_damaged_episode(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    unfinish(folder)
    episode = next(folder.glob("dataset/train/*/*/*/0.pt"))
    episode.write_bytes(b"")
    assert f"{episode} is damaged" in complaint(runs.resume(folder))


def unfinish(folder: Path) -> None:
    """Change a finished run so that it has one more epoch to train."""
    path = folder / "checkpoints" / "state.pt"
    state = torch.load(path, weights_only=False)
    state["progress"]["is_finished"] = False
    torch.save(state, path)


def test_full_disk(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk; the run can be resumed once there is space."""
    alone, folder = tmp_path / "alone", tmp_path / "run"
    assert runs.train(alone).returncode == 0
    settings = [*runs.BREAKOUT, *runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE, f"hydra.run.dir={folder}"]
    limit = 200_000
    state_size = (alone / "checkpoints" / "state.pt").stat().st_size
    assert state_size > limit
    starter = (
        "import resource, runpy, sys; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)); "
        "sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rsplit('/', 1)[0]); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = runs.run([sys.executable, "-c", starter, *runs.command(*settings)[1:]])
    words = complaint(result)
    assert "The disk is full" in words
    assert "state.pt could not be written. Free some space, then resume the run." in words
    assert runs.resume(folder).returncode == 0
    assert runs.content(folder) == runs.content(alone)


def test_loss_that_is_not_finite(tmp_path: Path) -> None:
    result = runs.train(tmp_path / "run", "denoiser.optimizer.lr=1e6", "denoiser.training.lr_warmup_steps=0")
    assert result.returncode == 1
    line = result.stderr.strip().splitlines()[-1]
    # Weights are looked at from time to time, the loss at every update.
    loss, weights = "loss of the denoiser is not finite at", "weights of the denoiser are not finite after"
    assert line.startswith((f"The {loss} its update ", f"The {weights} its update "))
    assert "There is no checkpoint yet." in line


def test_scripts_say_what_python_they_need(tmp_path: Path) -> None:
    for name in ("scripts", "requirements.txt", "requirements-test.txt"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.0\nexit 1\n')
    old.chmod(0o755)
    result = runs.run([tmp_path / "scripts" / "quickstart.sh"], PYTHON=str(old))
    assert (
        complaint(result)
        == f"error: CPython 3.11 or later is needed; {old} is Python 3.9.0. Set PYTHON=/path/to/python."
    )
