"""The GPU that these tests use, and the settings of its backends."""

from collections.abc import Callable, Iterator

import pytest
import torch

from run.device import make_current, set_backends


@pytest.fixture
def gpu() -> torch.device:
    device = torch.device("cuda", 0)
    make_current(device)
    return device


@pytest.fixture
def backends(gpu: torch.device) -> Iterator[Callable[[torch.dtype], None]]:
    """Choose the settings for a precision; afterwards they are as before."""
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    yield lambda dtype: set_backends(gpu, dtype)
    torch.set_float32_matmul_precision(precision)
    cudnn.allow_tf32, cudnn.benchmark = before
