"""Train an agent in its own world model: `python src/main.py env.train.id=BreakoutNoFrameskip-v4`.

`python src/main.py --resume RUN_DIR` resumes an interrupted run (`scripts/resume.sh` calls this).
"""

import contextlib
import functools
import os
import secrets
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # Loading takes seconds; until it is done, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# Without this, Hydra catches errors and prints longer messages of its own.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from algorithms import read_settings
from component import LossNotFinite
from files import load_tensors
from run.allocator import keep_freed_memory
from run.config import register_resolvers
from run.door import explain, fail
from run.folder import PROJECT, RunFolder
from run.interrupt import Interrupted, stop_at_once
from run.lock import alone_in
from run.ranks import Ranks, run_ranks
from trainer import Trainer
from training.summary import how_to_resume, next_commands, summarize

NOTHING_YET = "Stopped before the first checkpoint: nothing to resume."


def main() -> int:
    """Begin or resume a run; returns the exit code.

    0: done. 1: a loss is not finite. 2: a mistake that the user can correct. 128 + n: stopped by signal n.
    """
    register_resolvers()
    if sys.argv[1:2] == ["--resume"]:
        return resume(sys.argv[2:])
    if int(os.environ.get("RANK", 0)) > 0:
        # All ranks share the folder of rank 0: Hydra must not make more.
        sys.argv.append("hydra.run.dir=.")
    begin()
    return 0


@hydra.main(version_base="1.3", config_path=str(PROJECT / "config"), config_name="trainer")
def begin(config: DictConfig) -> None:
    """Begin a run with the settings that Hydra composed (with `-m`, one run of several)."""
    if config.common.seed is None:
        config.common.seed = secrets.randbelow(2**31)
    paths = (("initialization", "path_to_ckpt"), ("static_dataset", "path"), ("static_dataset", "path_full_res"))
    for section, key in paths:
        if config[section][key] is not None:
            config[section][key] = str(Path(config[section][key]).expanduser().resolve())
    path = Path(HydraConfig.get().runtime.output_dir)
    # Hydra would add a comment to an exception, so errors are handled here; with `-m`, later runs are not started.
    code = explain(lambda: launch(config, path, is_new=True), NOTHING_YET)
    if code != 0:
        sys.exit(code)


def resume(arguments: list[str]) -> int:
    """Resume the run in the given folder (default: the current one); arguments with `=` override settings."""
    where = [argument for argument in arguments if "=" not in argument]
    folder = RunFolder.open(Path(where[0] if where else "."))
    overrides = OmegaConf.from_dotlist([argument for argument in arguments if "=" in argument])
    config = folder.load_config()
    OmegaConf.set_struct(config, True)
    config = OmegaConf.merge(config, overrides)
    if folder.state.exists() and load_tensors(folder.state)["progress"]["is_finished"]:
        definition, _ = read_settings(config)
        print(f"This run is finished.\n{summarize(folder, definition.summary)}")
        return 0
    return launch(config, folder.path, is_new=False)


def launch(config: DictConfig, path: Path, is_new: bool) -> int:
    """Train on all ranks; returns the exit code."""
    try:
        return run_ranks(config.common.device, functools.partial(train, config, path, is_new))
    except KeyboardInterrupt as interrupt:
        folder = RunFolder(path)
        if not folder.state.exists():
            raise
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        return fail(f"Stopped at once, without another checkpoint. {how_to_resume(folder)}", 128 + number)


def train(config: DictConfig, path: Path, is_new: bool, ranks: Ranks) -> int:
    """Train on one rank, possibly in a process of its own; returns the exit code.

    All ranks use the folder and the seed of rank 0.
    """
    register_resolvers()
    path, config.common.seed = ranks.broadcast((path, config.common.seed))
    if ranks.device.type == "cpu":
        keep_freed_memory()
    if ranks.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    definition, typed = read_settings(config)
    folder, is_over = RunFolder(path.resolve()), contextlib.ExitStack()

    def enter() -> None:
        is_over.enter_context(alone_in(folder.path))
        if is_new:
            RunFolder.create(path, config)
        verb = "Run" if is_new else "Resuming"
        print(f"{verb}: {folder.path} (device {ranks.device}, seed {typed.common.seed})", flush=True)

    try:
        with is_over:
            ranks.on_first(enter)
            Trainer(definition, typed, folder, ranks, OmegaConf.to_container(config, resolve=True)).run()
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
        print(f"\n{summarize(folder, definition.summary)}\n{next_commands(folder)}", flush=True)
    return 0


if __name__ == "__main__":
    stop_at_once()
    sys.exit(explain(main, "Stopped."))
