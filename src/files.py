"""Atomic writing of files, and reading that cannot run code."""

import errno
import os
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from errors import UserError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a temporary file in the same folder, sync it, and rename it to `path`.

    Readers see the old content or the new content, never a part, even after a power cut.
    Raises UserError if the disk is full; the old file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise_if_disk_full(error, path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def raise_if_disk_full(error: OSError, path: Path) -> None:
    """Raise UserError if the error is a full disk, an exceeded quota or a file size limit."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise UserError(
            f"The disk is full ({error.strerror}): {path} could not be written. Free some space, then resume the run."
        ) from error


def save_tensors(value: Any, path: Path) -> None:
    """Write tensors, numbers, strings and containers of them atomically; `load_tensors` reads them.

    They go straight to the file, without a second copy in memory.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(value, file)
        except RuntimeError as error:
            # PyTorch's writer hides the reason why the file could not be written.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_atomically(path, write)


def load_tensors(path: Path, maps: bool = False) -> Any:
    """Read a file written by `torch.save` without running code; with `maps`, tensors are memory-mapped.

    Besides tensors and plain Python values, only `collections.Counter` and NumPy arrays of numbers are allowed
    (the published `info.pt` holds them). Raises UserError for a missing, damaged or unsafe file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=maps and zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, but a file is needed here.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            what = f"it holds {forbidden[1]}, and only tensors and numbers are read"
            raise UserError(f"{path} is refused: {what}.") from None
        raise UserError(f"{path} is damaged, or was not written by torch.save.") from None


def natural_order(name: str) -> list[int | str]:
    """A sort key that compares numbers inside names by value: `a2` comes before `a10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _allowed_types() -> list[Any]:
    reconstruct = np.array(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(reconstruct, f"{module}._reconstruct") for module in modules]
    named += [(scalar, f"{module}.scalar") for module in modules]
    dtypes = [type(np.dtype(kind)) for kind in ("bool", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")]
    # An empty array is pickled as a call of `bytes`.
    return [Counter, np.ndarray, np.dtype, bytes, *dtypes, *named]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Registered once for the process, because files are read in several threads.
torch.serialization.add_safe_globals(_allowed_types())
