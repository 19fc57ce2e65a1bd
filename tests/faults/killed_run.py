"""Train a run in processes that end at chosen changes of files: `python killed_run.py RUN_DIR PLAN [SETTING]...`.

The plan is a list of ends, in JSON: `[signal, pattern, count]` sends the signal before the `count`-th change of a file
in the run folder whose description, `<event> <path>`, matches the pattern. The last process is left alone. The
processes are forks of this one, so that each starts at once. Unless the settings choose an algorithm, small networks
and a short schedule of the default one are added.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

import runs
from algorithms import read_settings
from files import load_tensors
from main import resume
from run.config import register_resolvers
from run.folder import RunFolder
from run.interrupt import Interrupted
from run.ranks import Ranks
from trainer import Trainer
from training_helpers import CPU, SMALL, compose

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


def end_at(folder: Path, number: int, pattern: str, count: int) -> None:
    """Let this process be sent a signal before a change of a file in the folder."""
    left = count

    def watch(event: str, arguments: tuple) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wa+")
        if not (event in CHANGES or writes) or not str(arguments[0]).startswith(str(folder)):
            return
        if re.search(pattern, f"{event} {str(arguments[0]).removeprefix(str(folder))}"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    sys.addaudithook(watch)


def live(folder: RunFolder) -> None:
    """Begin or resume the run."""
    if folder.state.exists() and load_tensors(folder.state)["progress"]["is_finished"]:
        resume([str(folder.path), "--trust"])
        return
    config = folder.load_config()
    definition, typed = read_settings(config)
    trainer = Trainer(definition, typed, folder, Ranks(0, 1, CPU), OmegaConf.to_container(config, resolve=True))
    try:
        trainer.run()
    except Interrupted as interrupt:
        os._exit(128 + interrupt.signal_number)


def main() -> None:
    torch.set_num_threads(1)
    register_resolvers()
    path, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    small = () if any(setting.startswith("algorithm=") for setting in sys.argv[3:]) else SMALL
    folder = RunFolder.create(path, compose(*sys.argv[3:], game=runs.CHASE, small=small))
    for end in [*plan, None]:
        child = os.fork()
        if child == 0:
            if end is not None:
                end_at(folder.path, *end)
            live(folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        wanted = 0 if end is None else 128 + end[0] if end[0] == signal.SIGTERM else -end[0]
        if code != wanted:
            sys.exit(f"{end} ended with {code}")


if __name__ == "__main__":
    main()
