"""Error handling of the entry points: one line and an exit code for each mistake."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from errors import UserError, one_line
from files import raise_if_disk_full


def explain(work: Callable[[], int], when_interrupted: str) -> int:
    """Call `work` and return its exit code. Mistakes that the user can correct are one line and exit code 2.

    A signal that stops `work` at once is the line `when_interrupted`, and exit code 128 + its number.
    """
    try:
        return work()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, UserError) else error
        return fail(f"error: {_without_advice(one_line(cause))}", 2)
    except OSError as error:
        try:
            raise_if_disk_full(error, Path(error.filename or "a file"))
        except UserError as full:
            return fail(f"error: {full}", 2)
        if error.filename is None:
            raise
        return fail(f"error: {error.filename}: {error.strerror}.", 2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return fail(f"error: {_out_of_memory(error)}", 2)
    except KeyboardInterrupt as interrupt:
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        return fail(when_interrupted, 128 + number)


def _without_advice(message: str) -> str:
    """Hydra adds all places that it looked in, and advises to append unknown settings, which nothing would read."""
    before, advice, _ = message.partition(" Config search path:")[0].partition(" To append to your ")
    return f"{before} The chosen algorithm has no such setting." if advice else before


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: for Python, NumPy, or PyTorch, which raises RuntimeError on the CPU."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def _out_of_memory(error: Exception) -> str:
    reason = one_line(error).split("DefaultCPUAllocator: ")[-1] or "an allocation failed"
    return (
        f"There is not enough memory ({reason}). Use smaller networks (agent.…), smaller batches (batch_size), or less "
        "experience in memory (collection.train.num_steps_total, training.replay_device=disk)."
    )


def fail(message: str, code: int) -> int:
    print(f"\n{message}", file=sys.stderr, flush=True)
    return code
