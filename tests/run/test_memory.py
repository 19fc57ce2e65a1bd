"""Freed memory is kept for the next tensors."""

import subprocess
import sys

import pytest

from conftest import PROJECT

FAULTS = f"""
import sys; sys.path.insert(0, {str(PROJECT / "src")!r})
import resource, torch
from run.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def work():
    blocks = [torch.empty(20_000_000, dtype=torch.uint8).fill_(1) for _ in range(8)]
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(choice: str) -> int:
    result = subprocess.run([sys.executable, "-c", FAULTS, choice], capture_output=True, text=True)
    if result.returncode == 3:
        pytest.skip("this C library has no such setting")
    return int(result.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_memory_is_not_given_back() -> None:
    # One block of 20 MB is 4,883 pages: nothing comes back when kept, at least one block a time when not.
    assert page_faults("keep") < 1_000 < page_faults("leave")
