"""Frames of any size and colour, and actions of any kind, come from the data and reach every network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import runs
from data import Dataset, Episode
from errors import UserError
from run.log import read_metrics
from training_helpers import make_trainer, train

STEPS = 24
RECORDED = [
    "env=recorded",
    "env.train.size=[12,20]",
    "env.train.grayscale=true",
    "evaluation.untrained=false",
    "training.num_final_epochs=1",
]
WITHOUT_POLICY = "agent.actor_critic=null"
ACTIONS = {
    "numbered": torch.randint(5, (STEPS,)),
    "continuous": torch.randn(STEPS, 3),
    "none": torch.zeros(STEPS, 0),
}


def write(path: Path, act: Tensor, channels: int = 1) -> Path:
    """Two splits of one episode each, whose frames have 12×20 pixels."""
    for split in ("train", "test"):
        dataset = Dataset(path / split)
        flags = torch.zeros(STEPS, dtype=torch.uint8)
        frames = torch.randint(256, (STEPS, channels, 12, 20), dtype=torch.uint8)
        dataset.add_episode(Episode(frames, act, torch.randn(STEPS).sign(), flags, flags))
        dataset.save_info()
    return path


@pytest.mark.parametrize("kind", ACTIONS)
def test_models_of_any_actions_are_trained(tmp_path: Path, kind: str) -> None:
    act = ACTIONS[kind]
    data = write(tmp_path / "data", act)
    trainer = train(tmp_path / "run", f"static_dataset.path={data}", WITHOUT_POLICY, game=RECORDED)
    agent = trainer.algorithm.agent
    assert agent.components == ("denoiser", "rew_end_model")
    assert agent.denoiser.config.inner_model.num_actions == (int(act.max()) + 1 if act.ndim == 1 else act.size(1))
    assert agent.denoiser.config.inner_model.img_channels == 1
    names = {name for line in read_metrics(trainer.folder.metrics) for name in line}
    assert {"denoiser/test/loss_denoising", "rew_end_model/test/loss_total"} <= names
    assert (trainer.folder.media / "real_and_imagined_epoch_00001.mp4").is_file()


def test_policies_need_numbered_actions(tmp_path: Path) -> None:
    data = write(tmp_path / "data", ACTIONS["continuous"])
    with pytest.raises(UserError, match=r"actions of this data are continuous, .* set agent.actor_critic=null"):
        make_trainer(tmp_path / "run", f"static_dataset.path={data}", game=RECORDED)


def test_colours_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    data = write(tmp_path / "data", ACTIONS["numbered"], channels=3)
    with pytest.raises(UserError, match=r"are \(3, 12, 20\), .* \(1, 12, 20\): set env.train.grayscale=false"):
        make_trainer(tmp_path / "run", f"static_dataset.path={data}", WITHOUT_POLICY, game=RECORDED)


@pytest.mark.parametrize("game", [runs.BREAKOUT, runs.CHASE], ids=["atari", "gym"])
def test_games_can_be_grey_and_of_any_size(tmp_path: Path, game: list[str]) -> None:
    trainer = train(tmp_path / "run", "env.train.grayscale=true", "env.train.size=[12,24]", game=game)
    episode = Dataset.open(trainer.folder.dataset("train")).load_episode(0)
    assert episode.obs.shape[1:] == (1, 12, 24)
    assert episode.info["final_observation"].shape == (1, 12, 24) if episode.is_over else True
    assert trainer.algorithm.agent.actor_critic.config.img_size == (12, 24)
