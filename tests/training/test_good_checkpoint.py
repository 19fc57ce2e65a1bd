"""The last checkpoint is good, whatever becomes of the numbers afterwards."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import runs
from algorithms import read_settings
from algorithms.diamond.config import DiamondConfig
from files import load_tensors
from finite import NotFinite
from optimizers import OptimizerConfig
from run.folder import RunFolder
from run.log import Log, WandbConfig, read_metrics
from run.ranks import Ranks
from trainer import Trainer
from training_helpers import CPU, compose

LAST_EPOCH = 3
FEW_EPOCHS = ["collection.train.num_steps_total=55", "evaluation.every=1", "checkpointing.save_agent_every=1"]


def too_large_steps(config: DiamondConfig) -> DiamondConfig:
    """A learning rate that settings cannot have, in place of a training that went wrong."""
    return replace(config, denoiser=replace(config.denoiser, optimizer=OptimizerConfig(lr=1e30, weight_decay=0.0)))


def too_large_gradients(config: DiamondConfig) -> DiamondConfig:
    loss = replace(config.actor_critic.actor_critic_loss, weight_value_loss=1e38)
    return replace(config, actor_critic=replace(config.actor_critic, actor_critic_loss=loss))


@pytest.mark.parametrize(
    ("component", "spoil", "words"),
    [
        ("denoiser", too_large_steps, "weights of the denoiser are"),
        ("actor_critic", too_large_gradients, "gradients of the actor_critic are"),
    ],
)
def test_a_run_that_fails_in_its_last_epoch(
    tmp_path: Path, component: str, spoil: Callable[[DiamondConfig], DiamondConfig], words: str
) -> None:
    late = ["start_after_epochs=2", "steps_first_epoch=1", "lr_warmup_steps=0"]
    config = compose(*FEW_EPOCHS, *[f"{component}.training.{setting}" for setting in late], game=runs.CHASE)
    definition, typed = read_settings(config)
    folder = RunFolder.create(tmp_path / "run", config)
    trainer = Trainer(definition, spoil(typed), folder, Ranks(0, 1, CPU), {})
    with pytest.raises(NotFinite, match=f"The {words} not finite "):
        trainer.run()
    assert not folder.agent_version(LAST_EPOCH).exists()
    state = load_tensors(folder.state)
    assert state["progress"]["epoch"] == LAST_EPOCH
    for saved in (state, *map(load_tensors, folder.agent_versions.iterdir()), load_tensors(folder.best_agent)):
        assert_finite(saved)
    for line in folder.metrics.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def assert_finite(value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            assert_finite(each)
    elif torch.is_tensor(value) and value.is_floating_point():
        assert value.isfinite().all()


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    log = Log(folder, WandbConfig(), {})
    log.write(1, {"a/loss": math.nan, "b/loss": math.inf, "c/loss": 2.0})
    log.close()
    assert folder.metrics.read_text() == '{"epoch": 1, "a/loss": null, "b/loss": null, "c/loss": 2.0}\n'
    assert read_metrics(folder.metrics) == [{"epoch": 1, "c/loss": 2.0}]
