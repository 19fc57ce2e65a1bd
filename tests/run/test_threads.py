"""The number of PyTorch's threads."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from errors import UserError
from run.threads import choose_threads


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


def test_a_number_is_taken(two_threads: None) -> None:
    assert choose_threads(5) == 5


def test_the_environment_variable_decides(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose_threads("auto") == 2


def test_an_unknown_word() -> None:
    with pytest.raises(UserError, match=r"common\.threads=many is unknown: use auto or a number"):
        choose_threads("many")


def test_busy_processors_are_left_to_others(two_threads: None) -> None:
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    busy = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2 * os.cpu_count())]
    try:
        for process in busy:
            process.stdout.readline()
        assert choose_threads("auto") == 1
    finally:
        for process in busy:
            process.kill()
            process.wait()
