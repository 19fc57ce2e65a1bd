"""Give a trained run away: a folder with weights, settings, metrics, a film and a model card, for the Hugging Face Hub.

python scripts/share.py RUN_DIR --repo USER/NAME [--dry-run] [--out DIR] [--best | --epoch N]
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

import torch
from huggingface_hub import HfApi, get_token
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file

from envs import AtariConfig
from errors import UserError, one_line
from evaluation.records import NAME as EVALUATIONS
from evaluation.records import read_records
from evaluation.statistics import mean_interval
from evaluation.world_command import FOLDER as WORLDS
from evaluation.world_report import STEPS
from files import load_json, write_text_atomically
from run.arguments import OneLineParser, whole
from run.config import register_resolvers
from run.door import explain
from run.folder import RunFolder
from run.log import read_metrics
from trained.source import Source, find_run, load_config, load_source
from trained.weights import choose_weights

COPIED = ("metrics.jsonl", EVALUATIONS)
WORLD_METRICS = {"psnr": "PSNR", "psnr_moving": "PSNR of moving pixels", "ssim": "SSIM"}


def main() -> int:
    register_resolvers()
    parser = OneLineParser(prog="scripts/share.py", description="Share a trained run on the Hugging Face Hub.")
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="repository on the Hub; made if it is new")
    parser.add_argument("--dry-run", action="store_true", help="only write the folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder (outputs/shared/NAME)")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--epoch", type=whole, metavar="N", help="weights of that epoch instead of the newest kept")
    version.add_argument("--best", action="store_true", help="weights of the best test return")
    arguments = parser.parse_args()
    return explain(lambda: share(arguments), "Stopped.")


def share(arguments: argparse.Namespace) -> int:
    out = arguments.out or PROJECT / "outputs" / "shared" / arguments.repo.replace("/", "--")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: remove it, or name another folder with --out.")
    if not arguments.dry_run and get_token() is None:
        raise UserError("There is no token of the Hugging Face Hub: run `hf auth login`, or use --dry-run.")
    source = load_source(find_run(arguments.run, needs_weights=True), arguments.epoch, arguments.best)
    write_folder(source, choose_weights(RunFolder(source.folder), arguments.epoch, arguments.best), arguments.repo, out)
    print(f"Folder: {out}\nPlay it: python src/play.py --pretrained --local-dir {out}")
    if not arguments.dry_run:
        upload(arguments.repo, out)
        print(f"Shared: https://huggingface.co/{arguments.repo}")
    return 0


def write_folder(source: Source, weights: Path, repository: str, out: Path) -> None:
    """The published layout (models, agent and environment of `atari_100k`), and beside it all settings and results."""
    config, game, world = load_config(source.folder), game_of(source), world_of(source)
    below = out / "atari_100k" if isinstance(source.config.env.test, AtariConfig) else out
    tensors = {name: value.detach().clone().contiguous() for name, value in source.weights.items()}
    (below / "models").mkdir(parents=True, exist_ok=True)
    torch.save(tensors, below / "models" / f"{game}.pt")
    save_file(tensors, below / "models" / f"{game}.safetensors")
    if "agent" in config:
        _write_yaml(config.agent, below / "config" / "agent" / "default.yaml")
        agent = OmegaConf.to_container(config.agent, resolve=True)
        write_text_atomically(out / "agent_config.json", json.dumps(agent, indent=2) + "\n")
    _write_yaml(config.env, below / "config" / "env" / "atari.yaml")
    _write_yaml(anonymous(config), out / "config" / "trainer.yaml")
    for name in COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, out / name)
    films = sorted((source.folder / "media").glob("*.mp4"))
    if films:
        shutil.copyfile(films[-1], out / "film.mp4")
    if world is not None:
        write_text_atomically(out / "world.json", json.dumps(world, indent=1) + "\n")
    write_text_atomically(out / "README.md", model_card(source, weights, repository, world, bool(films)))


def game_of(source: Source) -> str:
    """The game's name, as the published files have it: `Breakout`."""
    name = source.config.env.test.id.removeprefix("ALE/").split(":")[-1]
    return name.removesuffix("NoFrameskip-v4").replace("/", "-")


def anonymous(config: DictConfig) -> DictConfig:
    """The settings without the paths of this machine, and without names of accounts."""
    shared = config.copy()
    OmegaConf.set_struct(shared, False)
    for name in ("static_dataset.path", "static_dataset.path_full_res", "initialization.path_to_ckpt"):
        if OmegaConf.select(shared, name) is not None:
            OmegaConf.update(shared, name, None)
    for name in ("entity", "notes", "group", "tags"):
        if "wandb" in shared and name in shared.wandb:
            shared.wandb[name] = None
    return shared


def world_of(source: Source) -> dict[str, Any] | None:
    """What `evaluate.py --world` measured of these weights, without the path of the run; None if it did not."""
    path = source.folder / WORLDS / source.version / "world.json"
    if not path.exists():
        return None
    found = load_json(path)
    try:
        _world_table(found)
    except (AttributeError, IndexError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged: it has no metrics of a world. Measure again with evaluate.py --world."
        ) from None
    return {name: value for name, value in found.items() if name != "run"}


def model_card(source: Source, weights: Path, repository: str, world: dict[str, Any] | None, has_film: bool) -> str:
    """Game, steps, seed, returns and world metrics where they are known, and the command to play."""
    algorithm = OmegaConf.select(load_config(source.folder), "algorithm._target_") or "diamond"
    facts = {
        "game": source.config.env.test.id,
        "algorithm": str(algorithm).split(".")[-1].removesuffix("Config").lower(),
        "weights": weights.stem,
        "seed": source.config.common.seed,
        **_progress(source.folder),
        **_returns(source),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value is not None)
    film = "\n\nA film of real beside imagined frames: [film.mp4](film.mp4)." if has_film else ""
    return f"""---
license: mit
library_name: pytorch
tags: [world-model, reinforcement-learning, playable]
---

# A world model of {game_of(source)}

A person can play in it, in a window or in a browser:

```bash
python src/play.py --pretrained --repo {repository}
python src/play.py --pretrained --repo {repository} --web
```

| | |
|---|---|
{table}{film}{"" if world is None else _world_table(world)}

The weights are in `models/`, as safetensors and as `.pt`; `config/trainer.yaml` holds all settings, `metrics.jsonl` the
metrics of training.
"""


def _world_table(world: dict[str, Any]) -> str:
    """The imagined world beside a copy of the last real frame, at some steps of the horizon."""
    curves = {name: world["metrics"][name] for name in WORLD_METRICS if name in world["metrics"]}
    horizon = len(curves["psnr"]["model"]["value"])
    steps = [step for step in STEPS if step <= horizon]
    rows = [[f"World, {world['segments']} segments", *(f"step {step}" for step in steps)], ["---"] * (len(steps) + 1)]
    for name, ways in curves.items():
        for way, words in (("model", ""), ("copy", ", copy of the last frame")):
            values = [ways[way]["value"][step - 1] for step in steps]
            numbers = [f"{value:.3g}" if isinstance(value, float) else str(value or "–") for value in values]
            rows.append([WORLD_METRICS[name] + words, *numbers])
    return "\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _progress(folder: Path) -> dict[str, Any]:
    """Epochs and steps of experience, and the newest test losses of the world."""
    lines = read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else []
    merged: dict[str, float] = {}
    for line in lines:
        merged |= line
    wanted = {"epochs": "epoch", "steps of experience": "collection/train/num_steps"}
    found = {label: int(merged[name]) for label, name in wanted.items() if name in merged}
    losses = {name: value for name, value in merged.items() if "/test/loss" in name}
    return found | {
        name.replace("/test/", ", test ").replace("_", " "): f"{value:.4f}" for name, value in losses.items()
    }


def _returns(source: Source) -> dict[str, str]:
    """Mean return with its 95% bootstrap interval, of the newest evaluation of these weights, or of their run."""
    records = [each for each in read_records(source.folder) if each.get("player") == "agent"]
    records = [each for each in records if each.get("weights") == source.version]
    if not records:
        return {}
    returns = [value for value in records[-1]["returns"] if value is not None]
    if not returns:
        return {}
    interval = mean_interval(returns)
    around = f" (95% interval {interval[0]:.2f} to {interval[1]:.2f})" if interval is not None else ""
    return {"return": f"{sum(returns) / len(returns):.2f}{around}, {len(returns)} episodes"}


def upload(repository: str, out: Path) -> None:
    """Raises UserError if the Hub does not take it."""
    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=out)
    # Networks, rights and names fail in more ways than the client has errors for.
    except Exception as error:
        reason = one_line(error).rstrip(".")
        again = f"The folder is kept, so that `hf upload {repository} {out}` can try again."
        raise UserError(f"{repository} could not be uploaded: {reason}. {again}") from None


def _write_yaml(config: DictConfig, path: Path) -> None:
    write_text_atomically(path, OmegaConf.to_yaml(config, resolve=True))


if __name__ == "__main__":
    sys.exit(main())
