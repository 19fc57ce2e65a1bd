"""The training and test data of a run: collected by the run itself, or a static data set."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from algorithms.config import StaticDatasetConfig
from data import Actions, Dataset, Experience, FullFrames, Spaces, find_splits, with_stride
from envs import EnvConfig, action_layout, frame_shape
from errors import UserError
from run.device import choose_device
from run.folder import RunFolder
from run.ranks import Ranks

REPLAY_SHARE_OF_MEMORY = 0.3


@dataclass(frozen=True)
class RunData:
    """Training and test data. `is_own`: the run collects it, and may remove it."""

    train: Experience
    test: Experience
    is_own: bool


def open_own_data(folder: RunFolder, env: EnvConfig, num_steps: int, replay_device: str, ranks: Ranks) -> RunData:
    """Open the run's own data sets, with memory for `num_steps` steps."""
    if replay_device == "disk":
        raise UserError("training.replay_device=disk is for static data sets: set static_dataset.path.")
    size = num_steps * int(np.prod(frame_shape(env)))
    device = _replay_device(replay_device, ranks, size) or torch.device("cpu")
    train = Experience(Dataset(folder.dataset("train")), device, num_steps)
    return RunData(train, Experience(Dataset(folder.dataset("test")), None), is_own=True)


def open_static_data(config: StaticDatasetConfig, env: EnvConfig, replay_device: str, ranks: Ranks) -> RunData:
    """Open an existing data set; without a test split, the test data is empty.

    Raises UserError if the data cannot be used, or its frames do not have the shape of `env`.
    """
    root = Path(config.path)
    train_path, test_path = find_splits(root)
    train = with_stride(Dataset.open(train_path), config.stride)
    test = with_stride(Dataset.open(test_path), config.stride) if test_path.is_dir() else Dataset(test_path)
    _check_frames(train, env)
    if test.spaces is not None:
        # Test data may hold an action that the training data lacks.
        train.spaces = _shared_spaces(train, test)
    full_frames = Path(config.path_full_res or root / "full_res")
    size = train.num_steps * int(np.prod(frame_shape(env)))
    device = _replay_device(replay_device, ranks, size)
    experience = Experience(train, device, train.num_steps, FullFrames(full_frames, train))
    experience.load()
    return RunData(experience, Experience(test, None, full=FullFrames(full_frames, test)), is_own=False)


def spaces_of(dataset: Dataset, env: EnvConfig, num_actions: int | None) -> Spaces:
    """The shape of frames and the actions of a data set; `num_actions=None` counts numbered actions in the data.

    Raises UserError if `env` does not describe the meaning of multi-hot actions.
    """
    layout, actions, frame = action_layout(env), dataset.spaces.actions, dataset.spaces.frame
    if actions.kind == "numbered":
        if layout is not None:
            where = dataset.directory
            raise UserError(f"The actions in {where} are numbers, without a layout: set env.train.actions=null.")
        if num_actions is not None and actions.size > num_actions:
            raise UserError(
                f"The actions in {dataset.directory} go up to {actions.size - 1}, but static_dataset.num_actions is "
                f"{num_actions}: set it to {actions.size}, or to null."
            )
        return Spaces(frame, Actions("numbered", num_actions or actions.size))
    if actions.kind == "multi-hot" and layout is None:
        raise UserError(
            f"The actions in {dataset.directory} are multi-hot, and env.train.actions does not describe their "
            f"{actions.size} entries: choose a game that does, as env=csgo."
        )
    if layout is not None and layout.num_actions != actions.size:
        raise UserError(
            f"The actions in {dataset.directory} have {actions.size} entries, but env.train.actions has "
            f"{layout.num_actions}: the data was made for another game."
        )
    return Spaces(frame, actions)


def _shared_spaces(train: Dataset, test: Dataset) -> Spaces:
    """The frames and actions of both; raises UserError if they have other frames, or another kind of actions."""
    ours, theirs = train.spaces, test.spaces
    if theirs.frame != ours.frame:
        raise UserError(f"The frames in {test.directory} are {theirs.frame}, but {ours.frame} in {train.directory}.")
    if not theirs.actions.is_like(ours.actions):
        seen, wanted = theirs.actions, ours.actions
        raise UserError(f"The actions in {test.directory} are {seen}, but {wanted} in {train.directory}.")
    return Spaces(ours.frame, Actions(ours.actions.kind, max(ours.actions.size, theirs.actions.size)))


def _check_frames(train: Dataset, env: EnvConfig) -> None:
    shape, wanted = train.spaces.frame, frame_shape(env)
    if shape != wanted:
        channels, height, width = shape
        size = height if height == width and isinstance(env.size, int) else f"[{height},{width}]"
        settings = [f"env.train.size={size}"] if shape[1:] != wanted[1:] else []
        settings += [f"env.train.grayscale={str(channels == 1).lower()}"] if channels != wanted[0] else []
        raise UserError(
            f"The frames in {train.directory} are {shape}, but the networks are made for {wanted}: "
            f"set {' '.join(settings)}."
        )


def _replay_device(name: str, ranks: Ranks, size: int) -> torch.device | None:
    """The device for frames of `size` bytes in all; None to leave them on disk."""
    if name == "disk":
        return None
    if name != "auto":
        return choose_device(name, setting="training.replay_device=")
    device = ranks.device
    if device.type == "cuda" and size < REPLAY_SHARE_OF_MEMORY * torch.cuda.get_device_properties(device).total_memory:
        return device
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")
    # Each rank holds a copy.
    return None if ranks.world_size * size > REPLAY_SHARE_OF_MEMORY * memory else torch.device("cpu")
