"""A job that needs a lock, which a test holds in its own process."""

import threading

from errors import UserError

LOCK = threading.Lock()


def take_lock() -> None:
    if not LOCK.acquire(timeout=20):
        raise UserError("The lock is held.")
    LOCK.release()
