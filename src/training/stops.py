"""Checkpoints and stops between two steps of any phase, at the same step on all ranks."""

import time
from collections.abc import Callable

from errors import UserError
from run.compiled import uncompiled
from run.interrupt import Interrupted
from run.ranks import Ranks

CONTINUE, CHECKPOINT, STOP = 0, 1, 2
"""Orders, of which the largest of all ranks counts. To stop because of signal n is STOP + n.

The first rank sends a negative order when its work alone ended in an error: to leave with the exit code -order.
"""


class Stops:
    """Decides between steps whether to write a checkpoint or stop; `checkpoint()` is called on all ranks together."""

    def __init__(self, ranks: Ranks, minutes: float, checkpoint: Callable[[], None]) -> None:
        """At most `minutes` pass between two checkpoints."""
        self._ranks = ranks
        self._seconds = 60 * minutes
        self._checkpoint = checkpoint
        self._last = time.monotonic()
        self._acts_alone = False

    def checkpoint(self) -> None:
        """Write a checkpoint now."""
        self._checkpoint()
        self._last = time.monotonic()

    def between_steps(self) -> None:
        """Write a checkpoint if one is due; raise Interrupted, after a checkpoint, if the run was asked to stop."""
        is_due = time.monotonic() - self._last > self._seconds
        order = CHECKPOINT if is_due else CONTINUE
        if self._ranks.interrupts.received is not None:
            order = STOP + self._ranks.interrupts.received
        if not self._acts_alone:
            order = self._ranks.largest(order)
        elif order != CONTINUE:
            self._ranks.broadcast(order)
        self._obey(order)

    def alone(self, work: Callable[[], None]) -> None:
        """Call `work` on the first rank, without compilation; meanwhile the others take part in its checkpoints.

        If `work` raises an error, the others leave with SystemExit: the first rank says why.
        """
        if self._ranks.is_first:
            self._acts_alone = True
            try:
                with uncompiled():
                    work()
            except Interrupted:
                raise
            except BaseException as error:
                self._ranks.broadcast(-2 if isinstance(error, UserError) else -1)
                raise
            self._acts_alone = False
            self._ranks.broadcast(CONTINUE)
        else:
            while (order := self._ranks.broadcast(None)) != CONTINUE:
                self._obey(order)

    def _obey(self, order: int) -> None:
        if order < 0:
            raise SystemExit(-order)
        if order != CONTINUE:
            self.checkpoint()
        if order >= STOP:
            raise Interrupted(order - STOP)
