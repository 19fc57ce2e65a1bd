"""Train with two ranks on the CPU: `python tests/two_cpus.py RUN_DIR OVERRIDE…`, as `common.device=all` on two GPUs."""

import functools
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import torch

import main
from run.door import explain
from run.interrupt import stop_at_once
from run.ranks import spawn_ranks
from training_helpers import compose

if __name__ == "__main__":
    stop_at_once()

    def train() -> int:
        work = functools.partial(main.train, compose(*sys.argv[2:]), Path(sys.argv[1]), True)
        return spawn_ranks([torch.device("cpu")] * 2, work)

    sys.exit(explain(train, "Stopped."))
