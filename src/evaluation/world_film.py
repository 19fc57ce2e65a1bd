"""Real and imagined frames side by side: a film, and files for other tools."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from errors import UserError
from evaluation.world_segments import Recorded
from files import write_text_atomically
from training.film import write_scenes

NUM_SCENES = 4


def film(recorded: Recorded, imagined: Tensor, path: Path) -> None:
    """Write a video of the longest segments: real frames, imagined ones, and their absolute difference.

    `imagined` uint8 (s, t, c, h, w). Each scene begins with the real frames that imagination starts from.
    """
    lengths = recorded.mask.sum(dim=1)
    longest = torch.nonzero(lengths == lengths.max())[:, 0]
    rows = longest[torch.linspace(0, len(longest) - 1, min(NUM_SCENES, len(longest))).long()]
    stop = recorded.num_context_steps + int(lengths.max())
    real = recorded.batch.obs[rows]
    ours = torch.cat((real[:, : recorded.num_context_steps], imagined[rows]), dim=1)
    difference = (ours.short() - real.short()).abs().byte()
    columns = {"real": real, "imagined": ours, "difference": difference}
    write_scenes({name: frames[:, :stop] for name, frames in columns.items()}, path)


def check_rollout_folder(folder: Path) -> None:
    """Raise UserError unless rollouts can be saved in a folder: it has to be new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--save-rollouts {folder} is not an empty folder: name a new one.")


def save_rollouts(recorded: Recorded, imagined: Tensor, folder: Path) -> None:
    """Write the frames of every segment as PNG files, and its actions as JSON.

    `imagined` uint8 (s, t, c, h, w). `segment_000/real_000.png` and `imagined_000.png` belong to the same step. The
    frames that imagination starts from have negative numbers, up to `real_-01.png`. `actions.json` names the episode,
    the step of the first frame in it, and the action that leads to each frame after the first.
    """
    n, segments = recorded.num_context_steps, recorded.segments
    lengths = recorded.mask.sum(dim=1).tolist()
    for row, length in enumerate(tqdm(lengths, desc="Saving rollouts", unit="segment")):
        inside = folder / f"segment_{row:03d}"
        inside.mkdir(parents=True)
        for place, frame in enumerate(recorded.batch.obs[row, : n + length]):
            _save(frame, inside / f"real_{place - n:03d}.png")
        for step, frame in enumerate(imagined[row, :length]):
            _save(frame, inside / f"imagined_{step:03d}.png")
        content = {
            "episode": int(segments.episode_ids[row]),
            "first_step": int(segments.starts[row]),
            "context_steps": n,
            "actions": recorded.batch.act[row, : n + length - 1].tolist(),
        }
        write_text_atomically(inside / "actions.json", json.dumps(content) + "\n")


def _save(frame: Tensor, path: Path) -> None:
    """A frame uint8 (c, h, w), of which one channel is grey."""
    pixels = frame.permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)).save(path)
