"""Train an agent in its own world model: `python src/main.py env.train.id=BreakoutNoFrameskip-v4`.

`python src/main.py --resume RUN_DIR` resumes an interrupted run (`scripts/resume.sh` calls this). It imports modules
that the run's settings name, and that are not part of this code, only with `--trust`.
"""

import contextlib
import functools
import os
import secrets
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Loading takes seconds; until it is done, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# Without this, Hydra catches errors and prints longer messages of its own.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from algorithms import read_settings
from algorithms.config import TrainerConfig
from envs import RecordedGameConfig
from envs.trust import check_env
from errors import UserError
from finite import NotFinite
from run.allocator import keep_freed_memory
from run.config import register_resolvers, require_sections
from run.device import choose_device, choose_precision, set_backends
from run.door import explain, fail
from run.folder import PROJECT, RunFolder
from run.interrupt import Interrupted, stop_at_once
from run.lock import alone_in
from run.ranks import Ranks, leave, number_from_launcher, run_ranks
from run.settings import read_overrides
from run.threads import choose_threads
from trainer import Trainer
from training.checkpoint import read_state, settle_finished
from training.schedule import Schedule
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
    try:
        begin()
    except ValueError as error:
        # Hydra's own, for overrides such as `agent=null`; what is raised inside `begin` is not a mistake of the user.
        if any(frame.f_code is begin.__wrapped__.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise
        raise UserError(f"{error}. The overrides: {' '.join(sys.argv[1:])}") from None
    return 0


@hydra.main(version_base="1.3", config_path=str(PROJECT / "config"), config_name="trainer")
def begin(config: DictConfig) -> None:
    """Begin a run with the settings that Hydra composed (with `-m`, one run of several)."""

    def start() -> int:
        complete(config)
        return launch(config, new_folder(), is_new=True)

    # Hydra would add a comment to an exception, so errors are handled here; with `-m`, later runs are not started.
    code = explain(start, NOTHING_YET)
    if code != 0:
        sys.exit(code)


def complete(config: DictConfig) -> None:
    """Draw the seed, choose what depends on the machine, and make paths absolute, in place.

    Raises UserError for settings that cannot be trained with.
    """
    require_sections(config, "common", "initialization", "static_dataset")
    if config.common.seed is None:
        config.common.seed = secrets.randbelow(2**31)
    paths = (("initialization", "path_to_ckpt"), ("static_dataset", "path"), ("static_dataset", "path_full_res"))
    for section, key in paths:
        if isinstance(config[section][key], str):
            config[section][key] = str(Path(os.path.expanduser(config[section][key])).resolve())
    _, typed = read_settings(config)
    device = choose_device(typed.common.device)
    for name, value in typed.chosen_for(device.type).items():
        OmegaConf.update(config, name, value)
        if number_from_launcher("RANK") == 0:
            print(f"{name}={value}, the default on {device.type}.")
    _, typed = read_settings(config)
    typed.check()
    config.common.threads = choose_threads(typed.common.threads)


def new_folder() -> Path:
    """The folder that Hydra chose; raises UserError if it was told none."""
    chosen = HydraConfig.get()
    if not (chosen.sweep.dir if chosen.mode == RunMode.MULTIRUN else chosen.run.dir):
        raise UserError("hydra.run.dir= is empty: name the folder of the run, or leave it out.")
    return Path(chosen.runtime.output_dir)


def resume(arguments: list[str]) -> int:
    """Resume the run in the folder that the first argument names (default: the current one).

    Further arguments override settings, and the run keeps them. A finished run continues if it has more epochs with
    them. The run's own code is trusted to import the modules that the settings name; other code asks for `--trust`.
    """
    trusts, arguments = "--trust" in arguments, [word for word in arguments if word != "--trust"]
    names_folder = bool(arguments) and ("=" not in arguments[0] or Path(arguments[0]).is_dir())
    folder = RunFolder.open(Path(arguments[0] if names_folder else "."))
    overrides = arguments[names_folder:]
    config = change(folder.load_config(), overrides)
    trusts = trusts or folder.path == PROJECT
    definition, typed = read_settings(config, trusts)
    typed.check()
    for env in (typed.env.train, typed.env.test):
        check_env(env, trusts)
    state = read_state(folder) if folder.state.exists() else None
    if state is not None and is_over(state["progress"], typed):
        if number_from_launcher("RANK") == 0:
            # Another process that has the folder does this itself.
            with contextlib.suppress(UserError), alone_in(folder.path):
                settle_finished(folder, state)
            words = f" Ignored: {' '.join(overrides)} (training.num_final_epochs=N adds epochs)." if overrides else ""
            print(f"This run is finished.{words}\n{summarize(folder, definition.summary)}")
        return 0
    return launch(config, folder.path, is_new=False)


def change(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The settings of a run with overrides; raises UserError for what cannot be changed after its beginning."""
    for word in overrides:
        if "=" not in word or Path(word).is_dir():
            raise UserError(f"{word} is not NAME=VALUE: one run is resumed at a time, and its folder comes first.")
    require_sections(config, "common")
    OmegaConf.set_struct(config, True)
    changed = OmegaConf.merge(config, read_overrides(overrides))
    require_sections(changed, "common")
    before, after = [OmegaConf.select(each, "common.seed") for each in (config, changed)]
    if before != after:
        raise UserError(f"common.seed={after} comes too late: this run began with {before}.")
    return changed


def is_over(progress: dict[str, Any], config: TrainerConfig) -> bool:
    """Whether a run is finished, and its settings ask for no more epochs than it had."""
    num_epochs = Schedule.of(config, learn=lambda epoch: ()).num_epochs(progress.get("first_collection"))
    return progress["is_finished"] and progress["epoch"] > num_epochs


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

    All ranks use the folder, the seed and the number of threads of rank 0.
    """
    register_resolvers()
    path, config.common = ranks.broadcast((path, config.common))
    if ranks.device.type == "cpu":
        keep_freed_memory()
    definition, typed = read_settings(config)
    threads = choose_threads(typed.common.threads)
    torch.set_num_threads(threads)
    set_backends(ranks.device, choose_precision(typed.training.precision, ranks.device))
    folder, is_over = RunFolder(path.resolve()), contextlib.ExitStack()

    def enter() -> None:
        is_over.enter_context(alone_in(folder.path))
        if is_new:
            RunFolder.create(path, config)
        verb = "Run" if is_new else "Resuming"
        print(f"{verb}: {folder.path} (device {ranks.device}, seed {typed.common.seed}, threads {threads})", flush=True)

    try:
        with is_over:
            ranks.on_first(enter)
            trainer = Trainer(definition, typed, folder, ranks, OmegaConf.to_container(config, resolve=True))
            if ranks.is_first and not is_new:
                # The checkpoint fits these settings, and nothing was trained with them yet.
                folder.keep(config)
                print(f"Resuming at {trainer.position}", flush=True)
            trainer.run()
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
        has_game = trainer.algorithm.policy is not None and not isinstance(typed.env.test, RecordedGameConfig)
        print(f"\n{summarize(folder, definition.summary)}\n{next_commands(folder, has_game)}", flush=True)
    return 0


if __name__ == "__main__":
    stop_at_once()
    leave(lambda: explain(main, "Stopped."))
