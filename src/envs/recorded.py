"""Games that exist only as recordings, loaded from the files that describe them."""

from pathlib import Path

from omegaconf import OmegaConf

from envs.config import RecordedGameConfig
from errors import UserError, near_matches
from run.config import build
from run.folder import PROJECT
from run.settings import load_yaml


def load_recorded_game(name: str) -> RecordedGameConfig:
    """Load a description of a game: a file in `config/env` by name, or any file by path.

    Raises UserError if the file does not exist or describes another kind of environment.
    """
    folder = PROJECT / "config" / "env"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise UserError(
            f"There is no game {name}: name a file, or one of {', '.join(known)}.{near_matches(name, known)}"
        )
    config = load_yaml(path)
    if OmegaConf.select(config, "train._target_") != "envs.RecordedGameConfig":
        raise UserError(f"{path} describes no recorded game: its train needs _target_: envs.RecordedGameConfig.")
    return build(RecordedGameConfig, config.train, f"{path.name}: train")
