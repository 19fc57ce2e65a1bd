"""Runs made before there were several algorithms: their weights and data open, and resuming names their own code."""

import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import runs
from conftest import PROJECT
from files import load_tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[True, False], ids=["finished", "unfinished"])
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it was left then: no `algorithm` in its settings, and phases by their names in its state."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    assert runs.train(folder).returncode == 0
    config = OmegaConf.load(folder / "config" / "trainer.yaml")
    del config["algorithm"]
    for split in ("train", "test"):
        del config.env[split]["grayscale"]
    OmegaConf.save(config, folder / "config" / "trainer.yaml")
    state = load_tensors(folder / "checkpoints" / "state.pt")
    state["progress"] |= {"phase": "collect", "is_finished": request.param}
    del state["progress"]["steps"]
    torch.save(state, folder / "checkpoints" / "state.pt")
    return folder


def test_resuming(earlier: Path) -> None:
    is_finished = load_tensors(earlier / "checkpoints" / "state.pt")["progress"]["is_finished"]
    result = runs.run(runs.command("--resume", earlier))
    if is_finished:
        assert result.stdout.startswith("This run is finished.")
        assert "Denoiser test loss" in result.stdout
    else:
        assert result.returncode == 2
        assert "was written by an earlier version of this project" in result.stderr
        assert f"{earlier}/scripts/resume.sh" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_weights_and_data_open(earlier: Path, tmp_path: Path) -> None:
    film = ["--video", tmp_path / "film.mp4", "--steps", "3", "--device", "cpu"]
    for options in ([], ["-d"], ["--env", "test"]):
        result = runs.run([sys.executable, PROJECT / "src" / "play.py", "--run", earlier, *film, *options])
        assert result.returncode == 0, result.stderr
    weights = earlier / "checkpoints" / "agent_versions" / "agent_epoch_00004.pt"
    settings = [f"static_dataset.path={earlier}", f"initialization.path_to_ckpt={weights}"]
    result = runs.train(tmp_path / "run", *settings, "training.num_final_epochs=1")
    assert result.returncode == 0, result.stderr
