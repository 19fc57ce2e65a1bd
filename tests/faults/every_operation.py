"""Kill a tiny run at operations on its files, and resume it: `python every_operation.py WORK_DIR SHARE NUM_SHARES`.

The operations are all that begin, replace or remove a file. Making a folder, and removing the rest of a file that was
already renamed, leave nothing that resuming could stumble over. A file is cut to half its size when it is closed. That
is no kill's doing for `metrics.jsonl`, which stays open for the whole run and is forced to disk before each checkpoint:
its last line alone can be cut (`test_log_removes_lines_after_its_position`). Of all points, this process takes each
`NUM_SHARES`-th, beginning with `SHARE`, and prints a line for each.

Every run is a fork of this process, which has imported everything: new processes would spend their time on that.
"""

import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from ckpt_chaos import inject
from omegaconf import DictConfig
from tiny_run import TINY, work
from torch import nn

from run.door import explain
from training_helpers import compose

RESULT = "checkpoints/agent_versions/agent_epoch_00002.pt"
SHORTER = ("training.model_free=true", "actor_critic.training.steps_first_epoch=1")
WITHOUT_EFFECT, APPENDED = ("os.mkdir", "os.remove"), "metrics.jsonl"


def main(root: Path, share: int, num_shares: int) -> None:
    torch.set_num_threads(1)
    with torch.device("meta"):
        # Imports what the first such network needs.
        nn.Embedding(1, 1)
    config, whole = compose(*TINY, *SHORTER), root / f"whole_{share}"
    assert run(whole, config, 0) == 0, (whole / "output").read_text()
    events = [line.split("\t") for line in (whole / "events").read_text().splitlines()]
    points = [(int(number), "before") for number, kind, *_ in events if kind not in WITHOUT_EFFECT]
    torn = [number for number, _, name, can_be_torn in events if can_be_torn == "1" and name != APPENDED]
    points += [(int(number), "torn") for number in torn]
    for number, mode in points[share::num_shares]:
        verdict = judge(root / f"{number:03d}_{mode}", config, number, mode, whole)
        print(f"{verdict} {mode} {' '.join(events[number - 1][:3])}", flush=True)


def judge(folder: Path, config: DictConfig, number: int, mode: str, whole: Path) -> str:
    """What resuming gives after a kill at this operation; the words are those of ckpt-chaos."""
    if run(folder, config, number, mode) == 0:
        return "NOT_KILLED"
    newest = max((epoch_of(path) for path in versions(folder) if is_complete(path, whole)), default=0)
    if run(folder, config) != 0:
        return f"HARD_FAIL {(folder / 'output').read_text()[-1000:]}"
    output, result = (folder / "output").read_text(), (folder / "out" / RESULT).read_bytes()
    rest = list((folder / "out").rglob("*.part"))
    shutil.rmtree(folder)
    if result != (whole / "out" / RESULT).read_bytes():
        return "SILENT_DIVERGENCE"
    if int(re.search(r"Resuming at epoch (\d+)", output)[1]) < newest:
        return "LOST_WORK"
    return f"LEFT_BEHIND {rest}" if rest else "PASS"


def versions(folder: Path) -> list[Path]:
    return list((folder / "out" / "checkpoints" / "agent_versions").glob("agent_epoch_*.pt"))


def epoch_of(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def is_complete(path: Path, whole: Path) -> bool:
    (other,) = [each for each in versions(whole) if each.name == path.name]
    return path.stat().st_size == other.stat().st_size


def run(folder: Path, config: DictConfig, number: int | None = None, mode: str = "before") -> int:
    """Run in `folder/out`, with the output in `folder/output`; returns the exit code.

    With a number, operations are written to `folder/events`, and the run is killed at that one, if it is not 0.
    """

    def train() -> int:
        if number is not None:
            inject.arm(str(folder / "out"), number or None, mode, str(folder / "events"), torn_python=True)
        return explain(lambda: work(folder / "out", config), "Stopped.")

    folder.mkdir(parents=True, exist_ok=True)
    return in_a_fork(train, folder / "output")


def in_a_fork(task: Callable[[], int], output: Path) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = task()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
