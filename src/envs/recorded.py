"""Games of which there are recordings only, by the files that describe them."""

from pathlib import Path

from envs.config import RecordedGameConfig
from errors import UserError, near_matches
from run.config import build, load_yaml
from run.folder import PROJECT


def load_recorded_game(name: str, targets: dict[str, type]) -> RecordedGameConfig:
    """The game that a file describes: one of `config/env`, by its name, or any by its path.

    Raises UserError where there is none, or it describes another kind of world.
    """
    folder = PROJECT / "config" / "env"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise UserError(
            f"There is no game {name}: name a file, or one of {', '.join(known)}.{near_matches(name, known)}"
        )
    config = load_yaml(path)
    game = build(config.train, targets) if "train" in config else None
    if not isinstance(game, RecordedGameConfig):
        raise UserError(f"{path} describes no recorded game: its train needs _target_: envs.RecordedGameConfig.")
    return game
