"""The processes (ranks) of one run, and communication between them."""

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import resource_tracker
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_map_only

from errors import UserError
from run.device import choose_device, make_current
from run.interrupt import SIGNALS, Interrupts

PATIENCE = timedelta(days=7)
"""How long ranks wait for rank 0, which may collect or evaluate for hours."""
SECONDS_TO_LEAVE = 10.0
"""How long the other processes may take to leave after the first one has left, before they are killed."""


@dataclass(frozen=True)
class Ranks:
    """This process and its place in the run; rank 0 collects, evaluates, logs and writes."""

    rank: int
    world_size: int
    device: torch.device
    control: dist.ProcessGroup | None = None
    """A gloo group for small messages between hosts, so that they never wait for a GPU."""
    interrupts: Interrupts = field(default_factory=Interrupts)
    """The signals that this process receives."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every rank."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def on_first(self, work: Callable[[], None]) -> None:
        """Call `work` on rank 0, and wait for it on the others. They leave quietly if it raises UserError."""
        mistake = None
        if self.is_first:
            try:
                work()
            except UserError as error:
                mistake = error
        failed = self.broadcast(mistake is not None)
        if mistake is not None:
            raise mistake
        if failed:
            raise SystemExit(2)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in order, on rank 0, and an empty list on the others.

        With several ranks, tensors arrive in main memory.
        """
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_first else None
        # A tensor on a rank's GPU would arrive on that same GPU, in another process.
        dist.gather_object(in_main_memory(value), values, dst=0, group=self.control)
        return values or []

    def largest(self, number: int) -> int:
        """Return the largest of all ranks' numbers on every rank."""
        if self.world_size == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return int(tensor)


def in_main_memory(value: Any) -> Any:
    """The same value, with every tensor in its dictionaries, lists and tuples moved to main memory."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.cpu(), value)


def run_ranks(device_name: str, work: Callable[[Ranks], int]) -> int:
    """Call `work` on every rank: in the processes of `torchrun`, in one process per GPU (`all`), or in this process.

    Returns the exit code. Raises UserError if several processes of `torchrun` would use one GPU.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        rank, world_size = number_from_launcher("RANK"), number_from_launcher("WORLD_SIZE")
        if rank >= world_size:
            raise UserError(
                f"RANK={rank} must be below WORLD_SIZE={world_size}. (torchrun sets both; else unset them.)"
            )
        _check_one_gpu_each(device_name)
        device = choose_device(device_name, number_from_launcher("LOCAL_RANK"))
        if world_size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise UserError(
                "RANK and WORLD_SIZE are set, but not MASTER_ADDR and MASTER_PORT: use torchrun, or unset them."
            )
        # While it waits for other ranks, which may never come, a signal ends the process.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        return _join_group(rank, world_size, device, work)
    device = choose_device(device_name)
    if device_name == "all" and torch.cuda.device_count() > 1:
        return spawn_ranks([torch.device("cuda", index) for index in range(torch.cuda.device_count())], work)
    make_current(device)
    return work(Ranks(0, 1, device))


def number_from_launcher(name: str) -> int:
    """The value of an environment variable that `torchrun` sets, 0 without it; raises UserError if it is no number."""
    word = os.environ.get(name, "0")
    if not (word.isascii() and word.isdecimal() and len(word) < 10):
        raise UserError(f"The environment variable {name}={word} is not a whole number: unset it, or use torchrun.")
    return int(word)


def leave(work: Callable[[], int]) -> NoReturn:
    """Call `work`, and end this process with the code that it returns, at once if the process is one of several ranks.

    Threads of the communication between ranks can outlive it, and would now and then abort a process that Python ends.
    """
    try:
        code = work()
    except SystemExit as leaving:
        # Of Hydra: a word, or None.
        if not isinstance(leaving.code, int):
            raise
        code = leaving.code
    if os.environ.get("WORLD_SIZE", "1") != "1":
        _end_process(code)
    sys.exit(code)


def spawn_ranks(devices: list[torch.device], work: Callable[[Ranks], int]) -> int:
    """Call `work`, which must be picklable, in one new process per device; returns the first non-zero exit code, or 0.

    The first signal is passed on to every process. A later one kills them, and raises KeyboardInterrupt.
    """
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(_free_port())
    before = {number: signal.getsignal(number) for number in SIGNALS}
    processes: list[torch.multiprocessing.Process] = []

    def pass_on(number: int) -> None:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, number)

    interrupts = Interrupts(pass_on=pass_on)
    interrupts.listen()
    try:
        # The new processes begin with the signals held back, until they listen to them. This helper of theirs, which
        # would start with the first of them, stops holding signals back.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        context = torch.multiprocessing.spawn(_spawned, (devices, work), nprocs=len(devices), join=False)
        processes += context.processes
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if interrupts.received is not None:
            pass_on(interrupts.received)
        while not context.join(grace_period=SECONDS_TO_LEAVE):
            pass
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise
    except torch.multiprocessing.ProcessExitedException as error:
        # The exit code of a process that signal n has ended is -n.
        return error.exit_code if error.exit_code > 0 else 128 - error.exit_code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _spawned(rank: int, devices: list[torch.device], work: Callable[[Ranks], int]) -> None:
    # Imported here, so that components can be benchmarked with only PyTorch installed.
    from run.door import explain

    try:
        code = explain(lambda: _join_group(rank, len(devices), devices[rank], work), "Stopped.")
    except Exception:
        # PyTorch shows the error of one process only, which may be one that left because of this error.
        traceback.print_exc()
        code = 1
    except SystemExit as leaving:
        code = leaving.code
    _end_process(code)


def _end_process(code: int) -> NoReturn:
    """End the process without the interpreter's own end, in which threads that still run can abort it."""
    for stream in (sys.stdout, sys.stderr):
        # The reader of a pipe may have left already.
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _join_group(rank: int, world_size: int, device: torch.device, work: Callable[[Ranks], int]) -> int:
    make_current(device)
    interrupts = Interrupts(is_patient=world_size > 1)
    if world_size > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=PATIENCE)
    interrupts.listen()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if world_size == 1:
        return work(Ranks(0, 1, device, interrupts=interrupts))
    try:
        control = dist.new_group(backend="gloo", timeout=PATIENCE)
        code = work(Ranks(rank, world_size, device, control, interrupts))
        if code == 0 or code >= 128:
            # All ranks finish or stop together: none may end its connections while another one still uses them.
            dist.barrier(group=control)
        return code
    finally:
        dist.destroy_process_group()


def _check_one_gpu_each(device_name: str) -> None:
    count = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if device_name.startswith("cuda:") and count > 1:
        raise UserError(
            f"common.device={device_name} is one GPU, but there are {count} processes on this machine, which need one "
            f"each. Use common.device=cuda: each process takes its own."
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
