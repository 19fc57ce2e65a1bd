"""Unpacking the archives in which the CS:GO data is published."""

import functools
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

from errors import UserError
from files import natural_order, write_atomically
from preparation.recordings import check_space, existing_parent, raise_mistakes, remove_parts, run_jobs

SMALL_SHARE = 0.06
"""Bytes of a small copy for each byte of a recording: 30×56 of 150×280 pixels, and some to spare."""


def unpack(tar_dir: Path, full_res: Path, removes: bool, num_workers: int) -> int:
    """Unpack the HDF5 files of all archives, each into a folder of its name; returns the number of archives.

    Files that were unpacked before are kept. With `removes`, an archive of recordings is removed once all its files are
    unpacked. Raises UserError for damaged archives, and, before anything is written, when there is too little space.
    """
    if not tar_dir.is_dir():
        raise UserError(f"There is no folder {tar_dir}.")
    tars = sorted(tar_dir.glob("*.tar*"), key=lambda path: natural_order(path.name))
    remove_parts(full_res)
    check_space(full_res, _bytes_needed(tars, full_res, removes, num_workers))
    jobs = [functools.partial(_unpack, tar, full_res / _stem(tar), removes) for tar in tars]
    raise_mistakes(run_jobs(jobs, "Unpacking", num_workers))
    return len(tars)


def _unpack(tar: Path, folder: Path, removes: bool) -> None:
    count = 0
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                # Only the last part of a name counts, so that nothing is written outside the folder.
                path = folder / Path(member.name).name
                if member.isfile() and path.suffix == ".hdf5":
                    count += 1
                    if not _is_there(path, member.size):
                        _extract(archive, member, path)
            if not _has_end(archive):
                raise UserError(f"{tar} is damaged (it ends too early).")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{tar} is damaged ({error}).") from None
    if removes and count > 0:
        tar.unlink()


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    def write(target: BinaryIO) -> None:
        with archive.extractfile(member) as source:
            shutil.copyfileobj(source, target, 1 << 20)
        if target.tell() != member.size:
            raise UserError(f"{archive.name} is damaged ({member.name} ends too early).")

    write_atomically(path, write)


def _has_end(archive: tarfile.TarFile) -> bool:
    """Whether the archive has the mark that follows its last member."""
    archive.fileobj.seek(archive.offset)
    block = archive.fileobj.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not any(block)


def _bytes_needed(tars: list[Path], full_res: Path, removes: bool, num_workers: int) -> int:
    """Bytes that are still to be written, including small copies."""
    sizes = [tar.stat().st_size for tar in tars]
    there = [sum(path.stat().st_size for path in (full_res / _stem(tar)).glob("*.hdf5")) for tar in tars]
    missing = [max(0, size - done) for size, done in zip(sizes, there, strict=True)]
    if removes and tars and tars[0].stat().st_dev == existing_parent(full_res).stat().st_dev:
        # Each archive makes room for its files: only those that are being unpacked exist twice.
        missing = sorted(missing)[-num_workers:]
    return int(sum(missing) + SMALL_SHARE * sum(sizes))


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _stem(tar: Path) -> str:
    return tar.name.partition(".tar")[0]
