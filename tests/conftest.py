"""Options and fixtures that all tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]

# As in the processes that the tests start: numbers must not depend on how a busy machine splits work.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reference-dir",
        type=Path,
        default=PROJECT.parent / "shared" / "reference",
        help="folder with recorded numbers of the published system",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The rooms with the longest files come first, so that no process is left alone with one of them in the end.
    first = ("learning", "faults")
    items.sort(key=lambda item: first.index(room) if (room := item.path.parent.name) in first else len(first))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no CUDA GPU here"))


@pytest.fixture(scope="session")
def reference_dir(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--reference-dir")
    if not folder.is_dir():
        pytest.skip(f"no recorded numbers: {folder} is absent (--reference-dir)")
    return folder


@pytest.fixture(autouse=True)
def _hangups_count() -> Iterator[None]:
    """SIGHUP has its effect on the processes that tests start, also if the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
