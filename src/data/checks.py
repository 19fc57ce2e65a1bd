"""What the entries of an episode file have to be. A ValueError names the entry that is not, and the step."""

from typing import Any

import torch
from torch import Tensor

from data.frames import to_bytes
from files import is_plain_tensor

STEP_FIELDS = ("obs", "act", "rew", "end", "trunc")
LARGEST_ACTION = 65_535
ROUNDING = 1e-3
"""How far outside of [-1, 1] a frame of floating point numbers may be."""


def check_steps(stored: Any) -> tuple[Tensor, ...]:
    """The entries `STEP_FIELDS` of an episode file, with the types that `Episode` promises; raises ValueError."""
    if not isinstance(stored, dict) or not set(STEP_FIELDS) <= stored.keys():
        raise ValueError(f"it needs the entries {', '.join(STEP_FIELDS)}")
    for name in STEP_FIELDS:
        if not is_plain_tensor(stored[name]) or stored[name].is_complex():
            raise ValueError(f"{name} is not a dense tensor of numbers")
    obs, act, *others = (stored[name] for name in STEP_FIELDS)
    if obs.dtype != torch.uint8 or obs.ndim != 4 or obs.numel() == 0:
        raise ValueError(f"obs is {_describe(obs)}, and frames are uint8 (t, c, h, w)")
    for name in STEP_FIELDS:
        if stored[name].ndim == 0 or len(stored[name]) != len(obs):
            raise ValueError(f"its entries differ in length: {name} is {_describe(stored[name])}, obs {_describe(obs)}")
    for name, values in zip(STEP_FIELDS[2:], others, strict=True):
        if values.ndim != 1:
            raise ValueError(f"{name} is {_describe(values)}, and has one number for each step")
    rew, end, trunc = others
    return obs, _check_act(act), _check_finite("rew", rew), _check_flags("end", end), _check_flags("trunc", trunc)


def check_info(stored: dict[str, Any], obs: Tensor) -> dict[str, Any]:
    """The entry `info` of an episode file, with the final observation, if there is one, as uint8; raises ValueError."""
    info = stored.get("info", {})
    if not isinstance(info, dict):
        raise ValueError(f"info is of type {type(info).__name__}, and should be a dictionary")
    info = dict(info)
    if "final_observation" in info:
        info["final_observation"] = _check_final_observation(info["final_observation"], obs)
    if "denoising_trajectory" in info:
        frames = info["denoising_trajectory"]
        if not is_plain_tensor(frames) or frames.ndim != 5 or frames.numel() == 0:
            raise ValueError("denoising_trajectory in its info is not a tensor (t, n, c, h, w)")
    return info


def _check_act(act: Tensor) -> Tensor:
    if act.ndim == 2 and act.is_floating_point():
        return _check_finite("act", act)
    if act.ndim == 2:
        _require("act", act, (act == 0) | (act == 1), "multi-hot actions are 0 or 1")
        return act.byte()
    if act.ndim > 2 or act.is_floating_point() or act.dtype == torch.bool:
        raise ValueError(f"act is {_describe(act)}, and actions are whole numbers (t), or vectors (t, num_actions)")
    act = act.long()
    _require("act", act, (act >= 0) & (act <= LARGEST_ACTION), f"numbered actions are 0 to {LARGEST_ACTION}")
    return act


def _check_finite(name: str, values: Tensor) -> Tensor:
    numbers = values.float()
    _require(name, values, torch.isfinite(numbers), "finite numbers are needed")
    return numbers


def _check_flags(name: str, values: Tensor) -> Tensor:
    _require(name, values, (values == 0) | (values == 1), "flags are 0 or 1")
    return values.byte()


def _check_final_observation(frame: Any, obs: Tensor) -> Tensor:
    if not is_plain_tensor(frame) or not (frame.dtype == torch.uint8 or frame.is_floating_point()):
        raise ValueError("final_observation in its info is not a frame, uint8 or in [-1, 1]")
    if frame.shape != obs.shape[1:]:
        seen, wanted = tuple(frame.shape), tuple(obs.shape[1:])
        raise ValueError(f"final_observation in its info is {seen}, and the frames of the episode are {wanted}")
    # A comparison with NaN is false.
    if frame.is_floating_point() and not bool((frame.abs() <= 1 + ROUNDING).all()):
        raise ValueError("final_observation in its info is not in [-1, 1]")
    return to_bytes(frame)


def _require(name: str, values: Tensor, is_good: Tensor, wanted: str) -> None:
    if not is_good.all():
        place = (~is_good).nonzero()[0].tolist()
        raise ValueError(f"{name} is {values[tuple(place)].item()} at step {place[0]}, and {wanted}")


def _describe(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {tuple(values.shape)}"
