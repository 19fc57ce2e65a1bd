"""Train an agent in its own world model: `python src/main.py env.train.id=BreakoutNoFrameskip-v4`.

`python src/main.py --resume RUN_DIR` resumes an interrupted run (`scripts/resume.sh` calls this).
"""

import functools
import os
import secrets
import sys
from pathlib import Path

# Without this, Hydra catches errors and prints longer messages of its own.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from algorithms import read_settings
from component import NotFinite
from run.allocator import keep_freed_memory
from run.config import register_resolvers, require_sections
from run.device import choose_precision, set_backends
from run.door import explain, fail
from run.folder import PROJECT, RunFolder
from run.interrupt import Interrupted
from run.ranks import Ranks, number_from_launcher, run_ranks
from trainer import Trainer
from training.checkpoint import read_state, settle_finished
from training.summary import how_to_resume, next_commands, summarize

NOTHING_YET = "Stopped before the first checkpoint: nothing to resume."


def main() -> int:
    """Begin or resume a run; returns the exit code.

    0: done. 1: a loss, gradients or weights are not finite. 2: a mistake that the user can correct.
    128 + n: stopped by signal n.
    """
    register_resolvers()
    if sys.argv[1:2] == ["--resume"]:
        return resume(sys.argv[2:])
    if number_from_launcher("RANK") > 0:
        # All ranks share the folder of rank 0: Hydra must not make more.
        sys.argv.append("hydra.run.dir=.")
    begin()
    return 0


@hydra.main(version_base="1.3", config_path=str(PROJECT / "config"), config_name="trainer")
def begin(config: DictConfig) -> None:
    """Begin a run with the settings that Hydra composed (with `-m`, one run of several)."""
    path = Path(HydraConfig.get().runtime.output_dir)

    def start() -> int:
        complete(config)
        return run_ranks(config.common.device, functools.partial(train, config, path, True))

    # Hydra would add a comment to an exception, so errors are handled here; with `-m`, later runs are not started.
    code = explain(start, NOTHING_YET)
    if code != 0:
        sys.exit(code)


def complete(config: DictConfig) -> None:
    """Draw the seed and make paths absolute, in place; raises UserError for settings that cannot be trained with."""
    require_sections(config, "common", "initialization", "static_dataset")
    if config.common.seed is None:
        config.common.seed = secrets.randbelow(2**31)
    paths = (("initialization", "path_to_ckpt"), ("static_dataset", "path"), ("static_dataset", "path_full_res"))
    for section, key in paths:
        if isinstance(config[section][key], str):
            config[section][key] = str(Path(os.path.expanduser(config[section][key])).resolve())
    _, typed = read_settings(config)
    typed.check()


def resume(arguments: list[str]) -> int:
    """Resume the run in the given folder (default: the current one); arguments with `=` override settings."""
    where = [argument for argument in arguments if "=" not in argument]
    folder = RunFolder.open(Path(where[0] if where else "."))
    overrides = OmegaConf.from_dotlist([argument for argument in arguments if "=" in argument])
    config = folder.load_config()
    OmegaConf.set_struct(config, True)
    config = OmegaConf.merge(config, overrides)
    require_sections(config, "common")
    definition, typed = read_settings(config)
    typed.check()
    if folder.state.exists() and (state := read_state(folder))["progress"]["is_finished"]:
        settle_finished(folder, state)
        print(f"This run is finished.\n{summarize(folder, definition.summary)}")
        return 0
    return run_ranks(config.common.device, functools.partial(train, config, folder.path, False))


def train(config: DictConfig, path: Path, is_new: bool, ranks: Ranks) -> int:
    """Train on one rank, possibly in a process of its own; returns the exit code.

    All ranks use the folder and the seed of rank 0.
    """
    register_resolvers()
    path, config.common.seed = ranks.broadcast((path, config.common.seed))
    if ranks.device.type == "cpu":
        keep_freed_memory()
    definition, typed = read_settings(config)
    set_backends(ranks.device, choose_precision(typed.training.precision, ranks.device))
    if ranks.is_first:
        folder = RunFolder.create(path, config) if is_new else RunFolder.open(path)
        verb = "Run" if is_new else "Resuming"
        print(f"{verb}: {folder.path} (device {ranks.device}, seed {typed.common.seed})", flush=True)
    ranks.broadcast("the folder exists")
    folder = RunFolder(path.resolve())
    try:
        Trainer(definition, typed, folder, ranks, OmegaConf.to_container(config, resolve=True)).run()
    except Interrupted as interrupt:
        if ranks.is_first:
            print(f"\nStopped by {interrupt}. {how_to_resume(folder)}", flush=True)
        return 128 + interrupt.signal_number
    except NotFinite as error:
        good = (
            f"The last good checkpoint is {folder.state}." if folder.state.exists() else "There is no checkpoint yet."
        )
        return fail(f"{error} {good}", 1)
    if ranks.is_first:
        print(f"\n{summarize(folder, definition.summary)}\n{next_commands(folder)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(explain(main, NOTHING_YET))
