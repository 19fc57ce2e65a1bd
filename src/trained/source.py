"""A run to play or to measure: the weights, settings and data in its folder, ours or of the published layout."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from agent import read_weights
from algorithms import read_settings
from algorithms.base import Definition
from algorithms.config import TrainerConfig
from data import find_splits
from envs import AtariConfig
from errors import UserError, near_matches
from files import load_json
from run.folder import PROJECT, RunFolder
from run.settings import read_overrides
from trained.published_kitchen import SETTINGS, is_published_kitchen, kitchen_overrides
from trained.weights import choose_weights, epoch_of, newest_weights

AGENT_JSON = "agent_config.json"


@dataclass(frozen=True)
class Source:
    """The weights of a run, the settings that they were trained with, and its data.

    `weights_path` names the weights in messages, `version` on the screen. `datasets` are the data sets of the run,
    `full_res` the folder of their frames in full size; new data sets are made in `folder`. `spawn` is a folder of
    places to start from. `trusts`: modules that the settings name may be imported. `epoch` is the last whole epoch that
    the weights were trained for, if it is known.
    """

    folder: Path
    version: str
    weights_path: Path
    weights: Mapping[str, Tensor]
    definition: Definition
    config: TrainerConfig
    datasets: list[Path]
    full_res: Path | None = None
    spawn: Path | None = None
    trusts: bool = False
    epoch: int | None = None


def find_run(named: Path | None, needs_weights: bool) -> Path:
    """The run folder to play: the named one, the one around the current directory, or the newest in `outputs/`.

    Raises UserError when there is none.
    """
    if named is not None:
        if not is_run(named):
            raise UserError(
                f"{named} is not a run folder: a run has a config/trainer.yaml (or {AGENT_JSON}) of its own."
            )
        return named.resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, PROJECT):
        if is_run(folder):
            return folder
    roots = _roots()
    runs = [folder for root in roots for folder in _runs_below(root)]
    if not runs:
        raise UserError(
            f"There is no run in {roots[0]}: train one with ./scripts/quickstart.sh, name the folder of one, or take "
            "published weights with --pretrained."
        )
    playable = [run for run in runs if newest_weights(RunFolder(run)) is not None] if needs_weights else runs
    newest = max(playable or runs, key=lambda run: _description(run).stat().st_mtime)
    print(f"Newest run: {newest}")
    return newest


def list_runs() -> dict[str, Path]:
    """The runs in `outputs/` that have weights, newest first, by the names of their folders there."""
    runs = {run: root for root in _roots() for run in _runs_below(root) if newest_weights(RunFolder(run)) is not None}
    newest_first = sorted(runs, key=lambda run: _description(run).stat().st_mtime, reverse=True)
    return {str(run.relative_to(runs[run])): run for run in newest_first}


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, and not this project's, which has a `config/trainer.yaml` too."""
    return _description(folder).is_file() and not (folder / "config" / "agent").is_dir()


def load_source(
    folder: Path, epoch: int | None, best: bool, overrides: Sequence[str] = (), trusts: bool = False
) -> Source:
    """Read the configuration and weights of a run; raises UserError for what is missing or does not fit.

    `overrides` change the settings of imagination, as in `world_model_env=fast`.
    """
    path = choose_weights(RunFolder(folder), epoch, best)
    config = override(load_config(folder), overrides)
    return make_source(folder, path, config, trusts, epoch_of(path, RunFolder(folder)))


def make_source(folder: Path, path: Path, config: DictConfig, trusts: bool = False, epoch: int | None = None) -> Source:
    """From whole settings, and the weights in a file. Raises UserError for what cannot be used."""
    weights = read_weights(path)
    definition, typed = read_settings(config, trusts)
    full_res = full_size_folder(typed)
    spawn = folder / "spawn" if (folder / "spawn").is_dir() else None
    datasets = list_datasets(folder, config)
    return Source(folder, path.stem, path, weights, definition, typed, datasets, full_res, spawn, trusts, epoch)


def full_size_folder(config: TrainerConfig) -> Path | None:
    """The folder of full-size frames of the data set that a run was trained on, if it still exists."""
    root, named = config.static_dataset.path, config.static_dataset.path_full_res
    folder = Path(named) if named is not None else None if root is None else Path(root) / "full_res"
    return folder if folder is not None and folder.is_dir() else None


def override(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Change settings of imagination: first `world_model_env=NAME` of config/world_model_env, then single ones.

    Raises UserError for overrides of anything else.
    """
    group, single = [], []
    for word in overrides:
        name = word.partition("=")[0]
        if name != "world_model_env" and not name.startswith("world_model_env."):
            raise UserError(f"{word} cannot be set when playing: only world_model_env=NAME and what is in it.")
        (group if name == "world_model_env" else single).append(word)
    if not overrides:
        return config
    if "world_model_env" not in config:
        raise UserError(f"{overrides[0]} cannot be set here: the algorithm of this run has no such settings.")
    config = config.copy()
    if group:
        config.world_model_env = _imagination(group[-1].partition("=")[2])
    return OmegaConf.merge(config, read_overrides(single))


def load_config(folder: Path) -> DictConfig:
    """The whole settings of a run; raises UserError for those that cannot be read."""
    run = RunFolder(folder)
    if is_published_kitchen(folder):
        return _compose("trainer", kitchen_overrides(folder))
    path = run.config if run.config.exists() else folder / AGENT_JSON
    config = run.load_config() if path == run.config else load_json(path)
    try:
        if path == run.config:
            for name in ("agent", "env"):
                if "algorithm" not in config and name not in config:
                    raise UserError(f"{path} has no section {name}.")
            return complete(config)
        return complete(_from_json(config))
    except (UserError, OmegaConfBaseException):
        raise
    # A section that is a number, or a name that is a list: anything can be in a file of somebody else.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error!r}.") from None


def complete(config: DictConfig) -> DictConfig:
    """Settings in this project's form, made from settings of the published system or of runs of older versions.

    What playing needs is copied: networks, environments, imagination, and where the data is.
    """
    if "algorithm" in config:
        return config
    whole = _compose()
    OmegaConf.set_struct(whole, False)
    whole.common.seed = 0
    whole.agent = config.agent
    whole.env = {split: _with_target(config.env[split]) for split in ("train", "test") if split in config.env}
    if "world_model_env" in config:
        whole.world_model_env = config.world_model_env
    for setting in ("static_dataset.path", "static_dataset.path_full_res", "training.model_free"):
        if (value := OmegaConf.select(config, setting)) is not None:
            OmegaConf.update(whole, setting, value)
    return whole


def list_datasets(folder: Path, config: DictConfig) -> list[Path]:
    """The data sets in a run, and the static data set that it was trained on."""
    own = RunFolder(folder).dataset("")
    static = OmegaConf.select(config, "static_dataset.path")
    there = filter(Path.is_dir, own.iterdir()) if own.is_dir() else ()
    return [*there, *(() if static is None else find_splits(Path(str(static))))]


def _imagination(name: str) -> DictConfig:
    """The settings in a file of config/world_model_env; raises UserError if there is no such file."""
    group = PROJECT / "config" / "world_model_env"
    known = sorted(path.stem for path in group.glob("*.yaml"))
    if name not in known:
        there = f"there is {', '.join(known)}" if known else f"{group} is missing"
        raise UserError(f"world_model_env={name} is unknown: {there}.{near_matches(name, known)}")
    return _compose(f"world_model_env/{name}").world_model_env


def _compose(name: str = "trainer", overrides: Sequence[str] = ()) -> DictConfig:
    """The project's own settings, or those in another file of `config`, with overrides."""
    with initialize_config_dir(str(PROJECT / "config"), version_base="1.3"):
        return compose(name, list(overrides))


def _with_target(node: DictConfig) -> dict[str, Any]:
    """An environment's settings; without a `_target_` they are the published system's, for Atari."""
    content = OmegaConf.to_container(node, resolve=True)
    if "_target_" in content:
        return content
    known = {field.name for field in fields(AtariConfig)}
    entries = {name: value for name, value in content.items() if name in known and value is not None}
    return {"_target_": "envs.AtariConfig", **entries}


def _roots() -> list[Path]:
    return [root / "outputs" for root in dict.fromkeys((Path.cwd(), PROJECT))]


def _description(folder: Path) -> Path:
    paths = (RunFolder(folder).config, folder / SETTINGS, folder / AGENT_JSON)
    return next((path for path in paths if path.is_file()), paths[-1])


def _runs_below(root: Path) -> Iterator[Path]:
    # outputs/<name>, outputs/<day>/<time>, outputs/<day>/<time>_sweep/<number>
    for pattern in ("*", "*/*", "*/*/*"):
        yield from (folder for folder in root.glob(pattern) if is_run(folder))


def _from_json(content: dict[str, Any]) -> DictConfig:
    """The widths of a run's networks, as `agent_config.json` lists them, as settings."""
    agent = {name: content[name] for name in ("denoiser", "rew_end_model", "actor_critic")}
    env = {"id": content["env_id"], "size": content["actor_critic"]["img_size"]}
    train, test = {**env, "done_on_life_loss": True}, {**env, "done_on_life_loss": False}
    return OmegaConf.create({"agent": agent, "env": {"train": train, "test": test}})
