"""Full-size frames in HDF5 files, read when they are needed."""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from data.checks import LARGEST_ACTION
from data.dataset import Dataset
from data.segments import Segments
from errors import UserError
from files import natural_order, require_plain_file, write_atomically

LARGEST_FRAME = 1 << 28
"""Bytes of the largest frame that is read."""
FILE_ID = "original_file_id"
"""The entry of an episode's `info` that names the file of its full-size frames."""


class FullFrames:
    """The frames of a data set's episodes in full size.

    They are in `.hdf5` files, anywhere below a folder, in the layout of the CS:GO data set (Pearce and Zhu 2022):
    `frame_<i>_x` uint8 (H, W, 3) in BGR order, and `frame_<i>_y`, the action. The folder is searched when frames are
    first needed; UserError is raised if it holds no such files.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder = folder
        self._dataset = dataset
        self._path_of_episode: dict[int, Path] = {}

    @cached_property
    def _paths(self) -> dict[str, Path]:
        paths = {path.stem: path for path in list_hdf5(self.folder)}
        if not paths:
            raise UserError(f"There are no full-size frames: {self.folder} holds no .hdf5 files.")
        return paths

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return tuple(self.gather(Segments(np.array([0]), np.array([0]), 1)).shape[2:])

    def gather(self, segments: Segments) -> Tensor:
        """Frames of segments, uint8 (b, length, 3, H, W), zero beyond the episodes."""
        rows = []
        for episode_id, start in zip(segments.episode_ids.tolist(), segments.starts.tolist(), strict=True):
            stop = min(self._dataset.lengths[episode_id], start + segments.length)
            first = max(0, start)
            # NumPy only, as in `data.stored.cut`.
            frames = _read_frames(self.find(episode_id), range(first, stop))
            before, after = first - start, start + segments.length - stop
            rows.append(np.pad(frames, ((before, after), (0, 0), (0, 0), (0, 0))))
        return torch.from_numpy(np.stack(rows))

    def find(self, episode_id: int) -> Path:
        """The file of an episode; raises UserError if it does not exist."""
        if episode_id not in self._path_of_episode:
            named = self._dataset.load_episode(episode_id).info.get(FILE_ID)
            path = self._paths.get(str(named).removesuffix(".hdf5").rpartition("/")[-1])
            if path is None:
                where = self._dataset.episode_path(episode_id)
                raise UserError(f"{self.folder} has no file {named}, of which {where} is the small copy.")
            self._path_of_episode[episode_id] = path
        return self._path_of_episode[episode_id]


def list_hdf5(folder: Path) -> list[Path]:
    """All HDF5 files below a folder, sorted by name, with `2` before `10`: the same order on every machine."""
    return sorted(folder.rglob("*.hdf5"), key=lambda path: natural_order(path.name))


def read_frames(path: Path, steps: Iterable[int]) -> Tensor:
    """The frames of the given steps in an HDF5 file as RGB, uint8 (t, 3, H, W); raises UserError if any is missing."""
    return torch.from_numpy(_read_frames(path, steps))


def _read_frames(path: Path, steps: Iterable[int]) -> np.ndarray:
    frames = _read(path, lambda file: np.stack([_read_frame(file, f"frame_{step}_x") for step in steps]))
    return np.ascontiguousarray(frames[..., ::-1].transpose(0, 3, 1, 2))


def _read_frame(file: object, name: str) -> np.ndarray:
    stored = file[name]
    # Looked at before it is read: a small file can declare a frame of a terabyte.
    if stored.dtype != np.uint8 or stored.ndim != 3 or stored.shape[-1] != 3 or stored.nbytes > LARGEST_FRAME:
        raise ValueError(f"{name} is {stored.dtype} {stored.shape}, and frames are uint8 (H, W, 3)")
    return stored[()]


def read_actions(path: Path) -> Tensor:
    """All actions of an HDF5 file: multi-hot uint8 (t, num_actions), or numbered int64 (t).

    Raises UserError if there are none.
    """

    def read(file: object) -> np.ndarray:
        count = sum(1 for name in file if name.startswith("frame_") and name.endswith("_y"))
        return np.stack([file[f"frame_{step}_y"][()] for step in range(count)])

    actions = _read(path, read)
    if actions.ndim > 2 or not np.isin(actions, (0, 1) if actions.ndim == 2 else range(LARGEST_ACTION + 1)).all():
        wanted = "0 or 1" if actions.ndim == 2 else f"0 to {LARGEST_ACTION}"
        raise UserError(f"{path} has actions other than {wanted}.")
    return torch.from_numpy(actions.astype(np.uint8 if actions.ndim == 2 else np.int64))


def write_hdf5(path: Path, frames: Iterable[np.ndarray], actions: np.ndarray) -> None:
    """Write RGB frames, uint8 (H, W, 3), and actions (t, num_actions), for `read_frames` and `read_actions`."""
    import h5py

    def write(target: BinaryIO) -> None:
        # Written through a Python file object, so that a full disk raises OSError.
        with h5py.File(target, "w") as file:
            for step, (frame, action) in enumerate(zip(frames, actions, strict=True)):
                file.create_dataset(f"frame_{step}_x", data=frame[..., ::-1], compression="lzf")
                file.create_dataset(f"frame_{step}_y", data=action.astype(np.float64))

    write_atomically(path, write)


def _read(path: Path, read: Callable[[object], np.ndarray]) -> np.ndarray:
    # Imported here, because only data sets with full-size frames need the library.
    import h5py

    require_plain_file(path)
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    # As in `load_tensors`: a damaged file can make any step fail.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged, or is not in the layout of the CS:GO data ({reason}).") from None
