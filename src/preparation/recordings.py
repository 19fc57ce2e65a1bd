"""The last step of every preparation: small copies of full-size recordings, split into train and test data."""

import argparse
import ctypes
import functools
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from data import Dataset, Episode
from data.full_frames import FILE_ID, list_hdf5, read_actions, read_frames
from errors import UserError
from files import natural_order

EVERY = 11
"""Without a list, every eleventh file is test data: 500 of the 5,503 of CS:GO."""
FRAMES_AT_ONCE = 100
PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def choose_test_names(names: Sequence[str], listed: Path | None) -> set[str]:
    """The file names that are test data: the ones listed in a text file, or else every eleventh.

    Names may be listed with or without their endings. Raises UserError for a listed name that is not a recording.
    """
    ordered = sorted(names, key=natural_order)
    if listed is None:
        return set(ordered[EVERY - 1 :: EVERY])
    try:
        lines = [line.strip() for line in listed.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{listed} cannot be read: {error}.") from None
    # A recording may have another ending than the video that it was made from.
    known = {Path(name).stem: name for name in ordered} | {name: name for name in ordered}
    chosen = set()
    for line in lines:
        name = known.get(line) or known.get(Path(line).stem)
        if name is None:
            raise UserError(f"{listed} names {line}, which is not among the {len(ordered)} recordings.")
        chosen.add(name)
    return chosen


def write_small_copies(
    full_res: Path,
    low_res: Path,
    size: tuple[int, int],
    test_list: Path | None,
    num_workers: int,
    only: Collection[str] | None = None,
) -> dict[str, int]:
    """Write small copies of all HDF5 files, or of those named in `only`, as data sets `train` and `test`.

    Copies that were made before are kept. A recording that cannot be read is left out, with a warning of one line.
    Returns the number of episodes in each data set.
    """
    paths = [path for path in list_hdf5(full_res) if only is None or path.name in only]
    if not paths:
        raise UserError(f"There are no recordings: {full_res} holds no .hdf5 files.")
    counts = Counter(path.name for path in paths)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UserError(f"{full_res} holds two files named {twice[0]}.")
    test_names = choose_test_names([path.name for path in paths], test_list)
    remove_parts(low_res)
    while paths:
        copies, num_episodes = place_episodes(low_res, [path.name for path in paths], test_names)
        jobs = [functools.partial(_copy, path, copy, size) for path, copy in zip(paths, copies, strict=True)]
        mistakes = run_jobs(jobs, "Making small copies", num_workers)
        if not mistakes:
            return finish_datasets(low_res, num_episodes)
        # Later recordings move up to the places of those that are left out.
        paths = [path for index, path in enumerate(paths) if index not in mistakes]
        for words in mistakes.values():
            print(f"warning: left out: {words}", file=sys.stderr)
    raise UserError(f"No recording in {full_res} can be read.")


def place_episodes(low_res: Path, names: list[str], test_names: set[str]) -> tuple[list[Path], dict[str, int]]:
    """The path of each recording's episode, and the number of episodes in each split."""
    paths, num_episodes = [], {"train": 0, "test": 0}
    for name in names:
        split = "test" if name in test_names else "train"
        paths.append(Dataset(low_res / split).episode_path(num_episodes[split]))
        num_episodes[split] += 1
    return paths, num_episodes


def finish_datasets(low_res: Path, num_episodes: dict[str, int]) -> dict[str, int]:
    """Write the summary of each split, after removing the files of other episodes; returns `num_episodes`."""
    for split, count in num_episodes.items():
        directory = low_res / split
        for path in directory.glob("*/*/*/*.pt"):
            if int(path.stem) >= count:
                path.unlink()
        (directory / "info.pt").unlink(missing_ok=True)
        dataset = Dataset.open_if_any(directory)
        if dataset is not None:
            dataset.info.is_static = True
            dataset.save_info()
    return num_episodes


def make_episode(frames: Tensor, act: Tensor, name: str) -> Episode:
    """Recorded steps as an episode without rewards, whose end is unknown: only the recording stops."""
    flags = torch.zeros(len(frames), dtype=torch.uint8)
    return Episode(frames, act, torch.zeros(len(frames)), flags, flags.clone(), {FILE_ID: name})


def is_done(path: Path, name: str, modified: float, shape: tuple[int, ...]) -> bool:
    """Whether an episode file was made from the recording `name` after its last change, with frames of that shape.

    `modified`: the time of that change, in seconds since 1970.
    """
    if not path.is_file() or path.stat().st_mtime < modified:
        return False
    try:
        episode = Episode.load(path)
    except UserError:
        return False
    return episode.info.get(FILE_ID) == name and tuple(episode.obs.shape[1:]) == shape


def shrink(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 frames (t, c, H, W) in another size, by antialiased bicubic interpolation."""
    small = F.interpolate(frames.float(), size=size, mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).byte()


def run_jobs(jobs: list[Callable[[], Any]], words: str, num_workers: int) -> dict[int, str]:
    """Do all jobs in parallel processes; returns the errors, one line each, by the number of the job."""
    mistakes = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A forked process can wait for ever: it has a copy of every lock, also of those that other threads hold.
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()
    with ProcessPoolExecutor(num_workers, context, initializer=_begin_worker) as pool:
        try:
            # The workers begin with the signals held back, until they know what to do about them.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            numbers = {pool.submit(job): number for number, job in enumerate(jobs)}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            for future in tqdm(as_completed(numbers), words, len(numbers), disable=not numbers):
                try:
                    future.result()
                except UserError as error:
                    mistakes[numbers[future]] = str(error)
        except BrokenProcessPool:
            raise UserError(
                "A process was killed, probably because memory ran out: set fewer --workers. Finished files are kept."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            signal.signal(signal.SIGTERM, before)
    return mistakes


def raise_mistakes(mistakes: dict[int, str]) -> None:
    """Raise UserError with the first of them, if there are any."""
    if mistakes:
        _, first = min(mistakes.items())
        others = sum(words != first for words in mistakes.values())
        more = f" {others} more files have mistakes." if others else ""
        raise UserError(f"{first}{more} Fix this, and call it again: finished files are kept.")


def remove_parts(folder: Path) -> None:
    """Remove files that killed processes left unfinished."""
    for part in folder.rglob(".*.part"):
        part.unlink()


def check_space(folder: Path, needed: int) -> None:
    """Raise UserError when the disk of a folder, which may not exist yet, has less than `needed` bytes left."""
    free = shutil.disk_usage(existing_parent(folder)).free
    if needed > free:
        raise UserError(
            f"The disk is too full: {folder} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there."
        )


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.exists())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every preparation has: `--test-list` and `--workers`."""

    def number(word: str) -> int:
        if not word.isdecimal() or int(word) == 0:
            raise argparse.ArgumentTypeError(f"{word} is not a number of processes")
        return int(word)

    parser.add_argument(
        "--test-list", type=Path, metavar="FILE", help="names of the test recordings, one on each line (every eleventh)"
    )
    parser.add_argument(
        "--workers", type=number, default=os.cpu_count(), metavar="N", help="processes (one for each core)"
    )


def _copy(path: Path, copy: Path, size: tuple[int, int]) -> None:
    if is_done(copy, path.name, path.stat().st_mtime, (3, *size)):
        return
    act = read_actions(path)
    small = [shrink(read_frames(path, steps), size) for steps in _in_chunks(range(len(act)))]
    make_episode(torch.cat(small), act, path.name).save(copy)


def _in_chunks(steps: range) -> Iterator[Iterable[int]]:
    return (steps[first : first + FRAMES_AT_ONCE] for first in range(0, len(steps), FRAMES_AT_ONCE))


def _begin_worker() -> None:
    torch.set_num_threads(1)
    # The parent handles Ctrl-C. On Linux, a worker also ends when its parent is killed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    # It may have been killed before.
    if not multiprocessing.parent_process().is_alive():
        raise SystemExit(1)
