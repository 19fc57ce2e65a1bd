"""Locks between processes. The kernel releases them when their process ends, even if it is killed."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from errors import UserError

NAME = ".lock"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder. Raises UserError if one already does."""
    with _opened(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 1000, 0).decode(errors="replace").strip() or "another process"
            raise UserError(f"{folder} is in use by {holder}: stop it, or wait until it has ended.") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield


@contextlib.contextmanager
def turn_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same folder."""
    with _opened(folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    folder.mkdir(parents=True, exist_ok=True)
    # Opened neither for appending nor truncating: the content names the holder.
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield file
    finally:
        os.close(file)
