"""Recordings from videos of any game, each with a table of the actions taken in it."""

import csv
import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from torch import Tensor

from data import ActionLayout, Episode
from data.full_frames import read_actions, read_frames, write_hdf5
from envs import RecordedGameConfig
from errors import UserError, near_matches
from files import natural_order
from preparation.recordings import (
    check_space,
    choose_test_names,
    finish_datasets,
    is_done,
    make_episode,
    place_episodes,
    raise_mistakes,
    remove_parts,
    run_jobs,
)

KINDS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
MOUSE = ("mouse_x", "mouse_y")


def list_videos(folder: Path) -> list[Path]:
    """The videos of a folder; raises UserError where there are none, or one has no table of actions."""
    videos = sorted(
        (path for path in folder.glob("*") if path.suffix.lower() in KINDS), key=lambda path: natural_order(path.name)
    )
    if not videos:
        raise UserError(f"There are no videos in {folder}: their names end in {', '.join(KINDS)}.")
    for video in videos:
        if not video.with_suffix(".csv").is_file():
            raise UserError(f"{video} has no table of actions: {video.with_suffix('.csv')} is missing.")
    if len({video.stem for video in videos}) < len(videos):
        raise UserError(f"{folder} holds two videos of the same name, but only one table of actions for them.")
    return videos


def write_full_size(
    videos: list[Path], full_res: Path, game: RecordedGameConfig, size: tuple[int, int], num_workers: int
) -> None:
    """Write each video as an HDF5 file of full-size frames and actions; files made before are kept."""
    remove_parts(full_res)
    frames = sum(_count_frames(video) for video in videos if not (full_res / f"{video.stem}.hdf5").is_file())
    check_space(full_res, int(1.1 * frames * 3 * (math.prod(size) + math.prod(game.size))))
    full_res.mkdir(parents=True, exist_ok=True)
    jobs = [functools.partial(_to_hdf5, video, full_res / f"{video.stem}.hdf5", game, size) for video in videos]
    raise_mistakes(run_jobs(jobs, "Reading videos", num_workers))


def write_episodes(
    videos: list[Path], low_res: Path, game: RecordedGameConfig, test_list: Path | None, num_workers: int
) -> dict[str, int]:
    """Write each video as an episode of small frames, without full-size ones; returns the episodes in each split."""
    check_space(low_res, int(1.1 * sum(map(_count_frames, videos)) * 3 * math.prod(game.size)))
    test_names = choose_test_names([video.name for video in videos], test_list)
    remove_parts(low_res)
    paths, num_episodes = place_episodes(low_res, [video.name for video in videos], test_names)
    jobs = [functools.partial(_to_episode, video, path, game) for video, path in zip(videos, paths, strict=True)]
    raise_mistakes(run_jobs(jobs, "Reading videos", num_workers))
    return finish_datasets(low_res, num_episodes)


def read_table(path: Path, layout: ActionLayout | None) -> Tensor:
    """The actions of a table, one row for each frame: multi-hot uint8 (t, num_actions), int64 (t) without a layout.

    Columns have the names of keys and buttons, and `mouse_x` and `mouse_y` in pixels; what has no column was never
    touched. Without a layout there is one column, `action`. Raises UserError with the line of a mistake.
    """
    known = ["action"] if layout is None else [*layout.held_names, *MOUSE]
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = reader.fieldnames or []
            if unknown := [name for name in columns if name not in known]:
                what = f"has a column {unknown[0]!r}, which is none of {', '.join(known)}"
                raise UserError(f"{path} {what}.{near_matches(unknown[0] or '', known)}")
            if layout is None and not columns:
                raise UserError(f"{path} needs a column action.")
            rows = [_numbers(row, columns, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    values = dict(zip(columns, np.array(rows, np.float64).reshape(len(rows), len(columns)).T, strict=True))
    if layout is None:
        return torch.from_numpy(values["action"].astype(np.int64))
    nothing = np.zeros(len(rows))
    held = np.stack([values.get(name, nothing) > 0 for name in layout.held_names], axis=1)
    motions = np.stack([values.get(name, nothing) for name in MOUSE], axis=1)
    return torch.from_numpy(layout.encode_steps(held, motions))


def read_video(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the frames of a video in another size, by averaging areas: uint8 (h, w, 3) each.

    Raises UserError where the video cannot be read.
    """
    height, width = size
    # Every frame in the file exactly once, whatever its timestamps are.
    output = ["-vf", f"scale={width}:{height}:flags=area", "-fps_mode", "passthrough", "-s", f"{width}x{height}"]
    try:
        reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24", output_params=output)
        next(reader)
        for frame in reader:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{path} cannot be read as a video: {reason}.") from None


def _to_hdf5(video: Path, path: Path, game: RecordedGameConfig, size: tuple[int, int]) -> None:
    act = read_table(video.with_suffix(".csv"), game.actions)
    if _is_recorded(path, video, size, act):
        return
    with _naming_both(video, act):
        write_hdf5(path, read_video(video, size), act.numpy())


def _to_episode(video: Path, path: Path, game: RecordedGameConfig) -> None:
    act = read_table(video.with_suffix(".csv"), game.actions)
    if is_done(path, video.name, _modified(video), (3, *game.size)) and _equal(Episode.load(path).act, act):
        return
    with _naming_both(video, act):
        frames = [frame for frame, _ in zip(read_video(video, game.size), act, strict=True)]
    make_episode(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous(), act, video.name).save(path)


def _is_recorded(path: Path, video: Path, size: tuple[int, int], act: Tensor) -> bool:
    """Whether a complete HDF5 file was made from the video and its table as they are now."""
    try:
        return (
            path.is_file()
            and path.stat().st_mtime >= _modified(video)
            and tuple(read_frames(path, [0]).shape[2:]) == size
            and _equal(read_actions(path), act)
        )
    except UserError:
        return False


def _equal(stored: Tensor, act: Tensor) -> bool:
    """Whether stored actions equal the ones that the table and the layout give now."""
    return stored.shape == act.shape and torch.equal(stored, act)


@contextmanager
def _naming_both(video: Path, act: Tensor) -> Iterator[None]:
    """Turn the error of a strict `zip` into one that names the two files that differ in length."""
    try:
        yield
    except ValueError:
        counts = f"{video.with_suffix('.csv')} has {len(act)} rows, but {video} has {_count_frames(video)} frames"
        raise UserError(f"{counts}: it needs one row for each frame.") from None


def _modified(video: Path) -> float:
    """When the video or its table was last changed."""
    return max(each.stat().st_mtime for each in (video, video.with_suffix(".csv")))


def _numbers(row: dict[str, str | None], columns: Sequence[str], path: Path, line: int) -> list[float]:
    if None in row:
        raise UserError(f"{path}, line {line}: there are more cells than columns.")
    return [_number(row[name], name, path, line) for name in columns]


def _number(word: str | None, name: str, path: Path, line: int) -> float:
    try:
        number = float(word or 0)
        is_good = math.isfinite(number) and (name != "action" or (number >= 0 and number.is_integer()))
    except ValueError:
        is_good = False
    if not is_good:
        kind = "the number of an action" if name == "action" else "a number"
        raise UserError(f"{path}, line {line}: {name} is {word!r}, and should be {kind}.")
    return number


def _count_frames(video: Path) -> int:
    try:
        return imageio_ffmpeg.count_frames_and_secs(str(video))[0]
    except (OSError, RuntimeError) as error:
        raise UserError(f"{video} cannot be read as a video: {str(error).strip().splitlines()[-1]}.") from None
