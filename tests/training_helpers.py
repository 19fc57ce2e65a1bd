"""Training inside the test's own process, with settings composed as the command line composes them."""

from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

import runs
from algorithms import read_settings
from conftest import PROJECT
from run.config import register_resolvers
from run.folder import RunFolder
from run.ranks import Ranks
from trainer import Trainer

CPU = torch.device("cpu")


SMALL = (*runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE)


def compose(*overrides: str, game: list[str] = runs.BREAKOUT, small: tuple[str, ...] = SMALL) -> DictConfig:
    register_resolvers()
    settings = [*game, *small, *overrides]
    with hydra.initialize_config_dir(str(PROJECT / "config"), version_base="1.3"):
        return hydra.compose("trainer", settings)


def make_trainer(
    path: Path, *overrides: str, game: list[str] = runs.BREAKOUT, small: tuple[str, ...] = SMALL
) -> Trainer:
    config = compose(*overrides, game=game, small=small)
    folder = RunFolder.create(path, config)
    definition, typed = read_settings(config)
    return Trainer(definition, typed, folder, Ranks(0, 1, CPU), OmegaConf.to_container(config, resolve=True))


def train(path: Path, *overrides: str, game: list[str] = runs.BREAKOUT, small: tuple[str, ...] = SMALL) -> Trainer:
    trainer = make_trainer(path, *overrides, game=game, small=small)
    trainer.run()
    return trainer
