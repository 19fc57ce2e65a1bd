"""The metrics of a run: lines of JSON, mirrored to TensorBoard and optionally to wandb."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from errors import UserError
from files import as_json, load_json_lines, raise_if_disk_full
from run.folder import RunFolder

EPOCH, UPDATE = "epoch", "update"
"""Names in a line of metrics: the epoch, and within it the update, that the metrics are of."""
EPOCH_OF_FILM = "_epoch_"
"""Before the epoch's number in the name of a film."""


@dataclass(frozen=True)
class WandbConfig:
    """Settings of wandb: `mode` is online, offline or disabled; the others are arguments of `wandb.init`."""

    mode: str = "disabled"
    project: str | None = None
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] | None = None
    notes: str | None = None


class Log:
    """Writes `metrics.jsonl`, and copies of its lines for TensorBoard and wandb.

    `position` is the file's length in bytes. Opening a log at an earlier position removes all later lines; the
    TensorBoard files are written again from the remaining lines. wandb cannot remove lines: it gets each
    line with its number as the step, and online it ignores a step that it already has.
    """

    def __init__(self, folder: RunFolder, wandb: WandbConfig, config: dict[str, Any], position: int = 0) -> None:
        self.path = folder.metrics
        _truncate(self.path, position)
        self._file = self.path.open("ab")
        shutil.rmtree(folder.tensorboard, ignore_errors=True)
        self._tensorboard = SummaryWriter(str(folder.tensorboard))
        self._wandb = _start_wandb(folder, wandb, config)
        self._num_lines = 0
        self._latest: dict[str, float | None] = {}
        self._started = time.monotonic()
        self._seconds_before = 0.0
        for line in read_metrics(self.path):
            self._follow(line)
            self._seconds_before = line.get("time/seconds", self._seconds_before)
        for picture in sorted(folder.media.glob(f"*{EPOCH_OF_FILM}?????.png")):
            if _epoch_of(picture) <= self._latest.get(EPOCH, -1):
                self.show(picture)

    @property
    def seconds(self) -> float:
        """Time since the run began, without pauses between processes and without work that was discarded."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def position(self) -> int:
        return self._file.tell()

    def write(self, epoch: int, metrics: dict[str, float], update: int | None = None) -> None:
        """Log metrics of an epoch. Names are paths (`<component>/train/loss`); `time/…` depends on the clock.

        Those that are logged within an epoch have the number of an `update`, which TensorBoard shows them at. JSON has
        no infinite numbers: a number that is not finite is logged as null.
        """
        line = {EPOCH: epoch, **({} if update is None else {UPDATE: update}), **as_json(metrics)}
        try:
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise_if_disk_full(error, self.path)
            raise
        if self._wandb is not None:
            self._wandb.log(line, step=self._num_lines)
        self._follow(line)

    def film(self, path: Path) -> None:
        """Send a film `<name>_epoch_<number>.mp4`, and the PNG beside it; TensorBoard gets the PNG only."""
        picture = path.with_suffix(".png")
        self.show(picture)
        if self._wandb is not None:
            import wandb

            name = f"media/{_name_of(path)}"
            media = {name: wandb.Image(str(picture)), f"{name}_film": wandb.Video(str(path), format="mp4")}
            self._wandb.log(media, step=self._num_lines)

    def show(self, picture: Path) -> None:
        """Copy a PNG `<name>_epoch_<number>.png` of the run's media to TensorBoard."""
        pixels = np.asarray(Image.open(picture))
        name = f"media/{_name_of(picture)}"
        self._tensorboard.add_image(name, pixels, _epoch_of(picture), dataformats="HWC")

    def latest(self, epoch: int) -> dict[str, float]:
        """The last metrics of an epoch, if it is the last one that was logged."""
        known = self._latest if self._latest.get(EPOCH) == epoch else {}
        return {name: value for name, value in known.items() if value is not None}

    def sync(self) -> None:
        """Force every line to disk, before a checkpoint records the position."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _follow(self, line: dict[str, float | None]) -> None:
        self._num_lines += 1
        self._latest = line if line[EPOCH] != self._latest.get(EPOCH) else {**self._latest, **line}
        for name, value in line.items():
            if name not in (EPOCH, UPDATE) and value is not None:
                self._tensorboard.add_scalar(name, value, line.get(UPDATE, line[EPOCH]))


def _name_of(path: Path) -> str:
    return path.stem.rpartition(EPOCH_OF_FILM)[0]


def _epoch_of(path: Path) -> int:
    return int(path.stem.rpartition(EPOCH_OF_FILM)[2])


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a `metrics.jsonl`, oldest first, without an incomplete last line and without nulls.

    Raises UserError for a line that is not one of metrics.
    """
    lines = load_json_lines(path)
    for number, line in enumerate(lines, start=1):
        known = {name: value for name, value in line.items() if value is not None}
        if EPOCH not in known or not all(isinstance(value, int | float) for value in known.values()):
            raise UserError(f"{path} is damaged: line {number} has no metrics of an epoch.")
    return [{name: value for name, value in line.items() if value is not None} for line in lines]


def _truncate(path: Path, position: int) -> None:
    with open(path, "ab") as file:
        if file.tell() < position:
            raise UserError(f"{path} is shorter ({file.tell()} bytes) than the checkpoint counts ({position} bytes).")
        file.truncate(position)


def _start_wandb(folder: RunFolder, config: WandbConfig, run_config: dict[str, Any]) -> Any:
    if config.mode == "disabled":
        return None
    if config.mode not in ("online", "offline"):
        raise UserError(f"wandb.mode={config.mode} is unknown: use online, offline or disabled.")
    import wandb

    options = {name: value for name, value in vars(config).items() if name != "mode"}
    options["name"] = options["name"] or folder.path.name
    # The same id at every start: a resumed run continues on its own wandb page.
    identity = f"{folder.path.parent.name}-{folder.path.name}"
    try:
        return wandb.init(
            **options, mode=config.mode, id=identity, resume="allow", dir=str(folder.path), config=run_config
        )
    except (wandb.errors.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"wandb did not start ({reason}). Log in with `wandb login`, or use wandb.mode=offline."
        ) from None
