"""What there is to play: the networks and environments of a run folder, ours or of the published layout."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from agent import AGENT_TARGETS, Agent, AgentConfig, read_weights
from data import find_splits
from envs import ENV_TARGETS, AtariConfig, EnvConfig, WorldModelEnvConfig
from errors import UserError
from models.actor_critic import ActorCriticConfig
from models.diffusion import DenoiserConfig, InnerModelConfig
from models.rew_end_model import RewEndModelConfig
from run.config import build, build_as
from run.folder import PROJECT, RunFolder

AGENT_JSON = "agent_config.json"


@dataclass(frozen=True)
class Source:
    """Networks, the real environments they learned from, and experience.

    `datasets` are the data sets it has, `full_res` the folder of their frames in full size; new ones are made in
    `folder`. `spawn` is a folder of places to begin in. `version` names the weights. Without `has_world_model`, only
    the policy was trained.
    """

    folder: Path
    datasets: list[Path]
    version: str
    agent: Agent
    num_actions: int
    env_train: EnvConfig
    env_test: EnvConfig
    world_model_env: WorldModelEnvConfig
    has_world_model: bool = True
    full_res: Path | None = None
    spawn: Path | None = None


def find_run(named: Path | None, needs_weights: bool) -> Path:
    """The run folder that is meant: the named one, the one that we are in, or the newest in `outputs/`.

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
    roots = [root / "outputs" for root in dict.fromkeys((here, PROJECT))]
    runs = [folder for root in roots for folder in _runs_below(root)]
    if not runs:
        raise UserError(
            f"There is no run in {roots[0]}: train one with ./scripts/quickstart.sh, name one with --run DIR, or play "
            "published weights with --pretrained."
        )
    playable = [run for run in runs if _newest_weights(RunFolder(run)) is not None] if needs_weights else runs
    newest = max(playable or runs, key=lambda run: _description(run).stat().st_mtime)
    print(f"Newest run: {newest}")
    return newest


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, and not this project's, which has a `config/trainer.yaml` too."""
    return _description(folder).is_file() and not (folder / "config" / "agent").is_dir()


def load_source(folder: Path, epoch: int | None, best: bool, overrides: Sequence[str] = ()) -> Source:
    """Read the configuration and weights of a run; raises UserError for what is missing or does not fit.

    `overrides` change the settings of imagination, as in `world_model_env=fast`.
    """
    path = _choose_weights(RunFolder(folder), epoch, best)
    weights = read_weights(path)
    config = override(load_config(folder), overrides)
    return make_source(folder, path, weights, config, _is_model_free(config))


def make_source(
    folder: Path, path: Path, weights: dict[str, torch.Tensor], config: DictConfig, model_free: bool = False
) -> Source:
    """From an `agent` and an `env` node to networks with the weights read from `path`.

    The number of actions is that of the weights; `_target_` resolves by the allow-list only.
    """
    actions = weights.get("denoiser.inner_model.act_emb.0.weight")
    if actions is None:
        raise UserError(f"{path} has no weights of the denoiser: there is no world to be in.")
    agent = Agent(build(config.agent, AGENT_TARGETS, num_actions=len(actions)))
    agent.take(weights, str(path))
    return Source(
        folder,
        list_datasets(folder, config),
        path.stem,
        agent.eval(),
        len(actions),
        env_config(config.env.train),
        env_config(config.env.test),
        build(config.world_model_env, ENV_TARGETS) if "world_model_env" in config else WorldModelEnvConfig(),
        not model_free,
        _full_res(config) if agent.upsampler is not None else None,
        folder / "spawn" if (folder / "spawn").is_dir() else None,
    )


def _full_res(config: DictConfig) -> Path | None:
    """Where the frames of the data set that a run was trained on lie in full size, if they are still there."""
    root = OmegaConf.select(config, "static_dataset.path")
    named = OmegaConf.select(config, "static_dataset.path_full_res")
    folder = Path(named) if named is not None else None if root is None else Path(root) / "full_res"
    return folder if folder is not None and folder.is_dir() else None


def override(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Settings with others of imagination: `world_model_env=NAME` of config/world_model_env, then single ones.

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
    settings = config.get("world_model_env") or {"_target_": "envs.WorldModelEnvConfig"}
    if group:
        with initialize_config_dir(str(PROJECT / "config"), version_base="1.3"):
            settings = compose("trainer", [group[-1]]).world_model_env
    config = OmegaConf.merge(config, {"world_model_env": settings}, OmegaConf.from_dotlist(single))
    # Unlike in a merge, nothing of the former choice is left over.
    if group:
        config.world_model_env = OmegaConf.merge(settings, OmegaConf.from_dotlist(single).get("world_model_env", {}))
    return config


def load_config(folder: Path) -> DictConfig:
    """The settings of a run, as far as playing needs them."""
    run = RunFolder(folder)
    if run.config.is_file():
        config = run.load_config()
        for name in ("agent", "env"):
            if name not in config:
                raise UserError(f"{run.config} has no section {name}.")
        return config
    try:
        return _from_json(json.loads((folder / AGENT_JSON).read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / AGENT_JSON} cannot be read: {error!r}.") from None


def list_datasets(folder: Path, config: DictConfig) -> list[Path]:
    """The data sets in a run, and those elsewhere that it was trained on."""
    own = RunFolder(folder).dataset("")
    static = OmegaConf.select(config, "static_dataset.path")
    return [*(own.iterdir() if own.is_dir() else ()), *(() if static is None else find_splits(Path(static)))]


def env_config(node: DictConfig) -> EnvConfig:
    """An environment's settings; those of the published system have no `_target_` and are Atari."""
    content = OmegaConf.to_container(node, resolve=True)
    if "_target_" in content:
        return build(node, ENV_TARGETS)
    known = {field.name for field in fields(AtariConfig)}
    entries = {name: value for name, value in content.items() if name in known and value is not None}
    return build_as(AtariConfig, OmegaConf.create(entries))


def _description(folder: Path) -> Path:
    config = RunFolder(folder).config
    return config if config.is_file() else folder / AGENT_JSON


def _runs_below(root: Path) -> Iterator[Path]:
    # outputs/<name>, outputs/<day>/<time>, outputs/<day>/<time>_sweep/<number>
    for pattern in ("*", "*/*", "*/*/*"):
        yield from (folder for folder in root.glob(pattern) if is_run(folder))


def _choose_weights(run: RunFolder, epoch: int | None, best: bool) -> Path:
    versions = sorted(run.agent_versions.glob("agent_epoch_*.pt"))
    if best:
        if run.best_agent.is_file():
            return run.best_agent
        raise UserError(f"{run.path} has no checkpoints/best.pt: its agent was never evaluated. Leave out --best.")
    if epoch is not None:
        if run.agent_version(epoch).is_file():
            return run.agent_version(epoch)
        kept = ", ".join(str(int(path.stem.rpartition("_")[2])) for path in versions)
        raise UserError(f"{run.path} keeps no weights of epoch {epoch}. Kept: {kept or 'none yet'}.")
    newest = _newest_weights(run)
    if newest is None:
        raise UserError(f"{run.path} has no weights yet: its first checkpoint was not written.")
    return newest


def _newest_weights(run: RunFolder) -> Path | None:
    versions = sorted(run.agent_versions.glob("agent_epoch_*.pt"))
    return versions[-1] if versions else run.state if run.state.is_file() else None


def _is_model_free(config: DictConfig) -> bool:
    return bool(OmegaConf.select(config, "training.model_free", default=False))


def _from_json(content: dict[str, Any]) -> DictConfig:
    """The widths of a run's networks, as `agent_config.json` lists them, as settings."""
    targets = {
        "denoiser": DenoiserConfig,
        "rew_end_model": RewEndModelConfig,
        "actor_critic": ActorCriticConfig,
    }
    agent = {name: {**content[name], "_target_": _target(kind)} for name, kind in targets.items()}
    inner_model = {**content["denoiser"]["inner_model"], "_target_": _target(InnerModelConfig)}
    agent["denoiser"]["inner_model"] = inner_model
    size = content["actor_critic"]["img_size"]
    env = {"id": content["env_id"], "size": size}
    train, test = {**env, "done_on_life_loss": True}, {**env, "done_on_life_loss": False}
    return OmegaConf.create(
        {"agent": {"_target_": _target(AgentConfig), **agent}, "env": {"train": train, "test": test}}
    )


def _target(kind: type) -> str:
    return next(name for name, known in AGENT_TARGETS.items() if known is kind)
