"""What every preparation ends with: small copies of full-size recordings, split into train and test data."""

import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
"""Which share of the files is test data where nothing else is said: about 500 of the 5,503 of CS:GO."""
FRAMES_AT_ONCE = 100


def choose_test_names(names: Sequence[str], listed: Path | None) -> set[str]:
    """Those of the file names that are test data: those listed in a text file, else every eleventh.

    The names' endings do not matter. Raises UserError for a listed name that is not among them.
    """
    ordered = sorted(names, key=natural_order)
    if listed is None:
        return set(ordered[EVERY - 1 :: EVERY])
    try:
        wanted = {Path(line.strip()).stem for line in listed.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{listed} cannot be read: {error}.") from None
    by_stem = {Path(name).stem: name for name in ordered}
    if missing := sorted(wanted - by_stem.keys()):
        raise UserError(f"{listed} names {missing[0]}, which is not among the {len(ordered)} recordings.")
    return {by_stem[stem] for stem in wanted}


def write_small_copies(
    full_res: Path, low_res: Path, size: tuple[int, int], test_list: Path | None, num_workers: int
) -> dict[str, int]:
    """Write small copies of all HDF5 files as data sets `train` and `test`; returns how many episodes each has.

    Copies that are there already stay. Raises UserError naming the files that could not be read, when all others are
    done.
    """
    paths = list_hdf5(full_res)
    if not paths:
        raise UserError(f"There are no recordings: {full_res} holds no .hdf5 files.")
    if twice := {path.name for path in paths if [each.name for each in paths].count(path.name) > 1}:
        raise UserError(f"{full_res} holds two files of the name {sorted(twice)[0]}.")
    test_names = choose_test_names([path.name for path in paths], test_list)
    splits = {
        "train": [path for path in paths if path.name not in test_names],
        "test": [path for path in paths if path.name in test_names],
    }
    jobs = []
    for split, members in splits.items():
        dataset = Dataset(low_res / split)
        for episode_id, path in enumerate(members):
            jobs.append(functools.partial(_copy, path, dataset.episode_path(episode_id), size))
    run_jobs(jobs, "Making small copies", num_workers)
    return {split: finish_dataset(low_res / split, len(members)) for split, members in splits.items()}


def finish_dataset(directory: Path, num_episodes: int) -> int:
    """Count the episodes that were written, and no others; returns their number."""
    for path in directory.glob("*/*/*/*.pt"):
        if int(path.stem) >= num_episodes:
            path.unlink()
    (directory / "info.pt").unlink(missing_ok=True)
    dataset = Dataset.open_if_any(directory) if num_episodes > 0 else None
    if dataset is None:
        return 0
    dataset.is_static = True
    dataset.save_info()
    return dataset.num_episodes


def make_episode(frames: Tensor, act: Tensor, name: str) -> Episode:
    """Recorded steps as an episode; nobody was rewarded, and nothing ended but the recording."""
    flags = torch.zeros(len(frames), dtype=torch.uint8)
    return Episode(frames, act, torch.zeros(len(frames)), flags, flags.clone(), {FILE_ID: name})


def is_done(path: Path, recording: Path, shape: tuple[int, ...]) -> bool:
    """Whether an episode file is there that was made of the recording as it is, with frames of that shape."""
    if not path.is_file() or path.stat().st_mtime < recording.stat().st_mtime:
        return False
    try:
        episode = Episode.load(path)
    except UserError:
        return False
    return episode.info.get(FILE_ID) == recording.name and tuple(episode.obs.shape[1:]) == shape


def shrink(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 frames (t, c, H, W) in another size, by antialiased bicubic interpolation."""
    small = F.interpolate(frames.float(), size=size, mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).byte()


def run_jobs(jobs: list[Callable[[], Any]], words: str, num_workers: int) -> None:
    """Do all jobs in processes; raises UserError with what went wrong in some of them, when the others are done."""
    mistakes = []
    with ProcessPoolExecutor(num_workers, initializer=_use_one_thread) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), words, len(futures)):
                try:
                    future.result()
                except UserError as error:
                    mistakes.append(str(error))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if mistakes:
        more = f" {len(mistakes) - 1} more files have mistakes." if len(mistakes) > 1 else ""
        raise UserError(f"{mistakes[0]}{more} Mend or remove them, and call this again: what is done stays.")


def check_space(folder: Path, needed: int) -> None:
    """Raise UserError when the disk of a folder, which may not exist yet, has less than `needed` bytes left."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"The disk is too full: {folder} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there."
        )


def default_workers() -> int:
    return os.cpu_count() or 1


def _copy(path: Path, copy: Path, size: tuple[int, int]) -> None:
    if is_done(copy, path, (3, *size)):
        return
    act = read_actions(path)
    small = [shrink(read_frames(path, steps), size) for steps in _in_chunks(range(len(act)))]
    make_episode(torch.cat(small), act, path.name).save(copy)


def _in_chunks(steps: range) -> Iterator[Iterable[int]]:
    return (steps[first : first + FRAMES_AT_ONCE] for first in range(0, len(steps), FRAMES_AT_ONCE))


def _use_one_thread() -> None:
    torch.set_num_threads(1)
