"""Published files of kitchen frames, `pairs_k*.pkl`, read without running what is pickled in them.

A file is a pickled list of `(current, future, data set, episode, step)`, where frames are tensors (1, h, w) in [-1, 1]
or arrays (h, w, 3) of bytes. PyTorch and NumPy would unpickle these with code of their own; here, each name that a file
may hold is answered by a small class or function below, and every other name is refused.
"""

import collections
import io
import pickle
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import torch
from torch import Tensor

from data import Episode, to_bytes
from data.full_frames import FILE_ID
from envs.pictures import to_frames
from errors import UserError
from files import is_plain_tensor, require_plain_file
from preparation.minari_episodes import FrameOptions
from preparation.recordings import choose_test_names, finish_datasets, place_episodes, remove_parts

LARGEST_SIDE = 8192


def is_pair_file(path: Path) -> bool:
    return path.suffix == ".pkl"


def write_pairs(
    path: Path, out: Path, options: FrameOptions, test_list: Path | None
) -> tuple[list[int], dict[str, int]]:
    """Write the episodes of a file of pairs to the data sets `train` and `test` in a folder.

    They have no actions and no rewards: the file holds none. Returns their lengths, and the number of episodes in each
    data set. Raises UserError if the file is damaged, or holds anything but pairs.
    """
    episodes = {name: to_frames(frames, options.size, options.is_grey) for name, frames in read_pairs(path).items()}
    names = list(episodes)
    remove_parts(out)
    paths, num_episodes = place_episodes(out, names, choose_test_names(names, test_list))
    for (name, frames), place in zip(episodes.items(), paths, strict=True):
        zeros = torch.zeros(len(frames))
        flags = torch.zeros(len(frames), dtype=torch.uint8)
        act = torch.zeros(len(frames), 0)
        Episode(frames, act, zeros, flags, flags.clone(), {FILE_ID: f"{path.name} {name}"}).save(place)
    return [len(frames) for frames in episodes.values()], finish_datasets(out, num_episodes)


def read_pairs(path: Path) -> dict[str, np.ndarray]:
    """The frames of each episode in a file of pairs, in order, each once: uint8 (t, h, w, c), named by its number.

    Raises UserError if the file is damaged, is too large for this machine, or holds anything but pairs.
    """
    require_plain_file(path)
    size, memory = path.stat().st_size, psutil.virtual_memory().total
    if size > memory:
        raise UserError(
            f"{path} has {size / 1e9:.1f} GB, and is read as a whole: this machine has {memory / 1e9:.1f} GB."
        )
    try:
        with open(path, "rb") as file:
            pairs = _Unpickler(file).load()
        frames = _in_order(pairs)
    except UserError:
        raise
    except _Refused as error:
        raise UserError(f"{path} is refused: it holds {error}, and only frames and numbers are read.") from None
    # A damaged file can make any step of unpickling fail.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as a file of pairs: {reason}") from None
    return frames


def _in_order(pairs: Any) -> dict[str, np.ndarray]:
    """Frames by the name of their episode; raises ValueError where one is missing."""
    if not isinstance(pairs, list) or not pairs:
        raise ValueError("it holds no list of pairs")
    episodes: dict[int, dict[int, np.ndarray]] = collections.defaultdict(dict)
    for pair in pairs:
        current, _, _, number, step = pair
        if type(number) is not int or type(step) is not int:
            raise ValueError("the episode and step of a pair are not numbers")
        episodes[number].setdefault(step, _as_picture(current))
    for number, frames in episodes.items():
        if sorted(frames) != list(range(len(frames))):
            raise ValueError(f"episode {number} lacks the frames of some steps")
    in_order = sorted(episodes.items())
    return {f"episode_{number}": np.stack([frames[step] for step in sorted(frames)]) for number, frames in in_order}


def _as_picture(frame: Any) -> np.ndarray:
    """A frame as bytes (h, w, c)."""
    if isinstance(frame, _Tensor):
        return to_bytes(frame.values).permute(1, 2, 0).numpy()
    if isinstance(frame, _Array):
        return frame.values
    raise ValueError("a frame is neither a tensor nor an array")


class _Refused(Exception):
    """A name that no file of pairs needs."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


class _Fixed:
    """A value that is whole once it is made: a file cannot change it by a state."""

    def __setstate__(self, _: Any) -> None:
        raise ValueError("a frame has a state of its own")


class _Tensor(_Fixed):
    """What a pickled tensor becomes: float32 (c, h, w) in [-1, 1], copied out of the batch that it was cut from."""

    values: Tensor

    def __init__(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> None:
        if not isinstance(storage, _Storage) or len(size) != 3 or not all(0 < side <= LARGEST_SIDE for side in size):
            raise ValueError("a tensor is not a frame")
        values = storage.values
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        if min(offset, *stride) < 0 or last >= len(values):
            raise ValueError("a tensor goes beyond its storage")
        self.values = values.as_strided(size, stride, offset).clone()
        if not bool((self.values.abs() <= 1 + 1e-3).all()):
            raise ValueError("a frame is not in [-1, 1]")


class _Storage(_Fixed):
    """What the storage of a pickled tensor becomes, which is a file of `torch.save`: float32 (n)."""

    values: Tensor

    def __init__(self, content: bytes) -> None:
        storage = torch.load(io.BytesIO(content), weights_only=True)
        if not isinstance(storage, torch.storage.TypedStorage) or storage.dtype != torch.float32:
            raise ValueError("a storage does not hold float32")
        with warnings.catch_warnings():
            # This kind of storage is deprecated, and the published files hold it.
            warnings.simplefilter("ignore", UserWarning)
            values = torch.empty(0).set_(storage.untyped())
        if not is_plain_tensor(values):
            raise ValueError("a storage is not in main memory")
        self.values = values


class _Type:
    """What a pickled NumPy type becomes; only bytes are allowed."""

    def __init__(self, name: str, *_: Any) -> None:
        if name != "u1":
            raise ValueError(f"an array has numbers of the type {name!r}, and not bytes")

    def __setstate__(self, _: Any) -> None:
        """Nothing in the state of a type of bytes matters."""


class _Array:
    """What a pickled NumPy array becomes: uint8 (h, w, 3)."""

    values: np.ndarray
    order: ClassVar = {False: "C", True: "F"}

    def __init__(self, *_: Any) -> None:
        """A pickled array is made empty, and filled by its state."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, _, is_fortran, content = state
        self._fill(content, shape, self.order[is_fortran])

    @classmethod
    def from_buffer(cls, content: Any, _: _Type, shape: tuple[int, ...], order: str) -> "_Array":
        """As in the fifth protocol of pickle."""
        array = cls()
        array._fill(content, shape, order)
        return array

    def _fill(self, content: Any, shape: tuple[int, ...], order: str) -> None:
        if len(shape) != 3 or shape[-1] != 3:
            raise ValueError(f"an array has the shape {shape}, and is not a picture (h, w, 3)")
        self.values = np.frombuffer(bytes(content), np.uint8).reshape(shape, order=order)


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Array.from_buffer for core in ("core", "_core")},
}
