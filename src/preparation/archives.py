"""The archives in which the CS:GO data is published, unpacked."""

import functools
import tarfile
from pathlib import Path

from errors import UserError
from files import natural_order, raise_if_disk_full
from preparation.recordings import check_space, run_jobs

SMALL_SHARE = 0.06
"""Bytes of a small copy for each byte of a recording: 30×56 of 150×280 pixels, and some room."""


def unpack(tar_dir: Path, full_res: Path, removes: bool, num_workers: int) -> int:
    """Unpack the HDF5 files of all archives, each archive into a folder of its name; returns how many archives.

    Files that are there already stay. With `removes`, an archive is removed when all its files are there. Raises
    UserError when there is nothing, or too little space, before anything is written.
    """
    if not tar_dir.is_dir():
        raise UserError(f"There is no folder {tar_dir}.")
    tars = sorted(tar_dir.glob("*.tar*"), key=lambda path: natural_order(path.name))
    check_space(full_res, sum(_bytes_needed(tar, full_res / _stem(tar)) for tar in tars))
    jobs = [functools.partial(_unpack, tar, full_res / _stem(tar), removes) for tar in tars]
    run_jobs(jobs, "Unpacking", num_workers)
    return len(tars)


def _unpack(tar: Path, folder: Path, removes: bool) -> None:
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                # Only the last part of a name counts, so that nothing is written outside the folder.
                path = folder / Path(member.name).name
                if not member.isfile() or path.suffix != ".hdf5" or _is_there(path, member.size):
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                beside = path.with_name(f".{path.name}.part")
                with archive.extractfile(member) as source, open(beside, "wb") as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
                beside.replace(path)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{tar} is damaged ({error}).") from None
    except OSError as error:
        raise_if_disk_full(error, folder)
        raise
    if removes:
        tar.unlink()


def _bytes_needed(tar: Path, folder: Path) -> int:
    """Bytes that are still to be written for an archive, small copies included."""
    there = sum(path.stat().st_size for path in folder.glob("*.hdf5"))
    return int(max(0, tar.stat().st_size - there) + SMALL_SHARE * tar.stat().st_size)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _stem(tar: Path) -> str:
    return tar.name.partition(".tar")[0]
