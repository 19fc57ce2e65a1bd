"""Train an agent in its own world model: `python src/main.py env.train.id=BreakoutNoFrameskip-v4`.

`python src/main.py --resume RUN_DIR` goes on with an interrupted run (`scripts/resume.sh` calls this).
"""

import functools
import os
import secrets
import sys
from pathlib import Path

# Hydra prints its own, longer messages unless it is told to pass errors on.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from component import LossNotFinite
from files import load_tensors
from run.config import register_resolvers
from run.door import explain, fail
from run.folder import RunFolder
from run.interrupt import Interrupted
from run.memory import keep_freed_memory
from run.ranks import Ranks, run_ranks
from trainer import Trainer
from training.config import TrainerConfig
from training.summary import how_to_resume, next_commands, summarize

NOTHING_YET = "Stopped before the first checkpoint: nothing to resume."


def main() -> int:
    """The exit code: 0 done, 2 a mistake that the user can mend, 1 a loss that is not finite, 128 + n signal n."""
    register_resolvers()
    if sys.argv[1:2] == ["--resume"]:
        return explain(lambda: resume(sys.argv[2:]), NOTHING_YET)
    if int(os.environ.get("RANK", 0)) > 0:
        # Every rank works in the first one's folder: Hydra must not make others.
        sys.argv.append("hydra.run.dir=.")
    return explain(lambda: begin() or 0, NOTHING_YET)


@hydra.main(version_base="1.3", config_path="../config", config_name="trainer")
def begin(config: DictConfig) -> None:
    """Begin a run as Hydra composes it (with `-m`, one of several)."""
    if config.common.seed is None:
        config.common.seed = secrets.randbelow(2**31)
    paths = (("initialization", "path_to_ckpt"), ("static_dataset", "path"), ("static_dataset", "path_full_res"))
    for section, key in paths:
        if config[section][key] is not None:
            config[section][key] = str(Path(config[section][key]).expanduser().resolve())
    path = Path(HydraConfig.get().runtime.output_dir)
    code = explain(lambda: run_ranks(config.common.device, functools.partial(_train, config, path, True)), NOTHING_YET)
    # Not an exception, which Hydra would comment on; with `-m`, the runs behind this one are left out.
    if code != 0:
        sys.exit(code)


def resume(arguments: list[str]) -> int:
    """Go on with the run in the named folder (default: here); further arguments override settings."""
    where = [argument for argument in arguments if "=" not in argument]
    folder = RunFolder.open(Path(where[0] if where else "."))
    overrides = OmegaConf.from_dotlist([argument for argument in arguments if "=" in argument])
    config = folder.load_config()
    OmegaConf.set_struct(config, True)
    config = OmegaConf.merge(config, overrides)
    if folder.state.exists() and load_tensors(folder.state)["progress"]["is_finished"]:
        print(f"This run is finished.\n{summarize(folder)}")
        return 0
    return run_ranks(config.common.device, functools.partial(_train, config, folder.path, False))


def _train(config: DictConfig, path: Path, is_new: bool, ranks: Ranks) -> int:
    """Train on one rank, whose process may have been started for it alone."""
    register_resolvers()
    return explain(lambda: _train_in_folder(config, path, is_new, ranks), NOTHING_YET)


def _train_in_folder(config: DictConfig, path: Path, is_new: bool, ranks: Ranks) -> int:
    """With several ranks, every one takes the first one's folder and seed."""
    path, seed = ranks.broadcast((path, config.common.seed))
    config.common.seed = seed
    if ranks.device.type == "cpu":
        keep_freed_memory()
    if ranks.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    typed = TrainerConfig.from_yaml(config)
    if ranks.is_first:
        folder = RunFolder.create(path, config) if is_new else RunFolder.open(path)
        print(f"{'Run' if is_new else 'Resuming'}: {folder.path} (device {ranks.device}, seed {seed})", flush=True)
    ranks.broadcast("the folder exists")
    folder = RunFolder(path.resolve())
    try:
        Trainer(typed, folder, ranks, OmegaConf.to_container(config, resolve=True)).run()
    except Interrupted as interrupt:
        if ranks.is_first:
            print(f"\nStopped by {interrupt}. {how_to_resume(folder)}", flush=True)
        return 128 + interrupt.signal_number
    except LossNotFinite as error:
        good = (
            f"The last good checkpoint is {folder.state}." if folder.state.exists() else "There is no checkpoint yet."
        )
        return fail(f"{error} {good}", 1)
    if ranks.is_first:
        print(f"\n{summarize(folder)}\n{next_commands(folder)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
