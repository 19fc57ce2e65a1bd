"""Measurements on a device: time, peak memory and bytes moved; and the device's name."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class BytesMoved(TorchDispatchMode):
    """Sums the bytes of every operation's inputs and outputs: the memory traffic if no operations were fused."""

    def __init__(self) -> None:
        super().__init__()
        self.gigabytes = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if torch.is_tensor(leaf)]
            self.gigabytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e9
        return out


def time_once(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that one call of `work` takes; on CUDA, measured with events."""
    if device.type == "cuda":
        start, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        torch.cuda.synchronize(device)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000
    started = time.perf_counter()
    work()
    if device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - started


def begin_peak(device: torch.device) -> None:
    """Reset the peak memory (on the CPU, this is supported on Linux only)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu" and (clear := Path("/proc/self/clear_refs")).exists():
        clear.write_text("5")


def read_peak_gb(device: torch.device) -> float | None:
    """Peak of the memory allocated on the device; on the CPU, peak memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    if device.type != "cpu" or not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return f"{cpu}, {torch.get_num_threads()} threads" + (" (mps)" if device.type == "mps" else "")


def file_name(device: torch.device) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in device_name(device)).strip("_").lower()
