"""Atomic writing of files, and reading that cannot run code."""

import errno
import fcntl
import json
import math
import os
import re
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.torch_version import TorchVersion

from errors import UserError

OLDEST_SAFE_TORCH = "2.10"
"""Before this version, `weights_only=True` could be made to write out of bounds."""
LARGEST_TEXT = 1 << 18
"""The largest file of settings, in bytes. The project's own have a few thousand."""


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
    path = Path(path)
    require_plain_file(path)
    if TorchVersion(torch.__version__) < OLDEST_SAFE_TORCH:
        raise UserError(
            f"{path} is not read with PyTorch {torch.__version__}: reading files of others is safe from version "
            f"{OLDEST_SAFE_TORCH} on. Update it by pip install -r requirements.txt."
        )
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive and _unpacked_size(path) > path.stat().st_size:
            raise UserError(f"{path} is refused: it is compressed, and torch.save writes files that are not.")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=maps and is_archive)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    # A damaged file can make any step of unpickling fail, in ways that PyTorch does not list.
    except Exception as error:
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            what = f"it holds {forbidden[1]}, and only tensors and numbers are read"
            raise UserError(f"{path} is refused: {what}.") from None
        raise UserError(f"{path} is damaged, or was not written by torch.save.") from None


def _unpacked_size(path: Path) -> int:
    """Bytes of all members of an archive. A compressed one can hold a thousand times its own size."""
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def is_plain_tensor(value: Any) -> bool:
    """Whether a value is a dense tensor in main memory whose elements are all stored.

    A file can also hold sparse, quantised and nested tensors, and tensors that repeat one element a billion times.
    """
    if not torch.is_tensor(value) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    if value.is_quantized or value.is_nested:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def load_text(path: Path) -> str:
    """Read a file of settings; raises UserError if it is missing, is not text, or is larger than settings can be."""
    require_plain_file(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_TEXT + 1)
        if len(content) <= LARGEST_TEXT:
            return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    raise UserError(f"{path} is larger than a file of settings can be: {LARGEST_TEXT} bytes.")


def load_json(path: Path) -> Any:
    """Read a JSON file of settings; raises UserError if it is missing or is not one."""
    text = load_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: it is not JSON ({error}).") from None


def load_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON mapping in each line, without an incomplete last line; [] if there is no file.

    Raises UserError for a line that is not one.
    """
    if not os.path.lexists(path):
        return []
    require_plain_file(path)
    lines = []
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise UserError(f"{path} is damaged: line {number} is not a JSON mapping.")
        lines.append(line)
    return lines


def as_json(value: Any) -> Any:
    """The same mappings and lists, with None for each number that is not finite: JSON has none of those."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    return [as_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def append_json_line(path: Path, line: dict[str, Any]) -> None:
    """Append a JSON mapping as a whole line; it is on disk afterwards. Several processes can append to a file.

    An incomplete last line, which a killed process left, is removed. Raises UserError if the disk is full.
    """
    content = json.dumps(line, allow_nan=False).encode() + b"\n"
    # Unbuffered: what could not be written must not be tried again when the file is closed.
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)
        try:
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            raise_if_disk_full(error, path)
            raise


def load_array(path: Path) -> np.ndarray:
    """Read an array of numbers from an `.npy` file, memory-mapped; raises UserError if it is missing or damaged."""
    require_plain_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    # As in `load_tensors`: a damaged header can make any step fail.
    except Exception as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} cannot be read: it is an archive of arrays.")
    return array


def require_plain_file(path: Path) -> None:
    """Raise UserError unless `path` is a file with an end: not a folder, and not a pipe, which could block for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', error)}.") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a folder, but a file is needed here.")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is a pipe or a device, but a plain file is needed here.")


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


# Set once for the process, because files are read in several threads.
for _words in ("'torch.load' received a zip file that looks like a TorchScript archive", "Detected pickle protocol"):
    warnings.filterwarnings("ignore", message=_words)
torch.serialization.add_safe_globals(_allowed_types())
