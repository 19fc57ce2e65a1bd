"""The device and the precision of a run, and how its networks compute in a part of it."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from errors import UserError


def choose_device(name: str, local_rank: int = 0, setting: str = "common.device=") -> torch.device:
    """The device for a setting: auto, cpu, mps, cuda, cuda:N, or all (one GPU per rank).

    Raises UserError if this machine does not have the device.
    """
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return _with_index(torch.device(kind), local_rank)
    try:
        device = torch.device("cuda" if name == "all" else name)
    except RuntimeError:
        raise UserError(f"{setting}{name} is unknown: use auto, cpu, mps, cuda, cuda:N or all.") from None
    if device.type == "cpu" and not device.index:
        return torch.device("cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{setting}{name}, but PyTorch sees no CUDA GPU here. Use {setting}cpu (or auto).")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"{setting}{name}, but there are only {count} GPUs here: cuda:0 to cuda:{count - 1}.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"{setting}mps, but PyTorch sees no Apple GPU here. Use {setting}cpu (or auto).")
    if device.type not in ("cuda", "mps") or (device.type == "mps" and device.index):
        raise UserError(f"{setting}{name} is not supported: use auto, cpu, mps, cuda, cuda:N or all.")
    return _with_index(device, local_rank)


def _with_index(device: torch.device, local_rank: int) -> torch.device:
    if device.type != "cuda" or device.index is not None:
        return device
    if local_rank >= (count := torch.cuda.device_count()):
        raise UserError(f"Process {local_rank} (counted from 0) of this machine needs a GPU; only {count} are here.")
    return torch.device("cuda", local_rank)


def make_current(device: torch.device) -> None:
    """Let this process use a GPU wherever none is named; without this, every process also takes memory on the first."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype for a value of `training.precision` (auto, bf16, fp16, fp32) on a device.

    `auto` is bfloat16 on devices with instructions for it (CUDA, CPUs with bf16 instructions), and float32 on others.
    """
    match name:
        case "fp32":
            return torch.float32
        case "bf16":
            return torch.bfloat16
        case "fp16":
            return torch.float16
        case "auto":
            return torch.bfloat16 if _is_good_at_bf16(device) else torch.float32
    raise UserError(f"training.precision={name} is unknown: use auto, bf16, fp16 or fp32.")


def set_backends(device: torch.device, precision: torch.dtype) -> None:
    """Choose the settings of PyTorch's backends for this process; only CUDA needs any.

    In float32, matrix products and convolutions are exact (no TF32). In bfloat16, the parts that remain in float32 may
    use TF32. cuDNN measures which algorithm is fastest for each shape.
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("highest" if precision == torch.float32 else "high")
    torch.backends.cudnn.allow_tf32 = precision != torch.float32
    torch.backends.cudnn.benchmark = True


def _is_good_at_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def cast_weights(network: nn.Module, precision: torch.dtype) -> None:
    """Cast the weights of convolutions and linear layers once, instead of at each call as `autocast` does.

    The network can no longer be trained.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(precision)


def autocast(device: torch.device, precision: torch.dtype) -> contextlib.AbstractContextManager:
    """A context in which networks run in `precision`: automatic mixed precision, or no change for float32."""
    if precision == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, precision)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def casts_kept() -> Iterator[None]:
    """Several `autocast` contexts inside cast each weight only once. The weights must not change inside."""
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
