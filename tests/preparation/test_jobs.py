"""Jobs in parallel processes."""

from locked_job import LOCK, take_lock
from preparation.recordings import run_jobs


def test_workers_have_no_copy_of_a_held_lock() -> None:
    with LOCK:
        assert run_jobs([take_lock] * 2, "Taking the lock", 2) == {}
