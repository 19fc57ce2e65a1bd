"""The progress of a run."""

from dataclasses import dataclass


@dataclass
class Progress:
    """The current epoch and phase, the progress of the phase, and results that later phases need.

    `steps` is the number of steps that an `Interleave` phase has collected so far. `first_collection` is the number of
    steps collected in the first epoch. `best_return` was reached in `best_epoch`, or, without
    a policy, `best_loss` on the test data.
    """

    epoch: int = 1
    phase: int = 0
    phase_has_begun: bool = False
    steps: int = 0
    first_collection: int | None = None
    best_return: float | None = None
    best_loss: float | None = None
    best_epoch: int | None = None
    is_finished: bool = False

    def next_phase(self) -> None:
        self.phase, self.phase_has_begun, self.steps = self.phase + 1, False, 0

    def next_epoch(self) -> None:
        self.epoch, self.phase = self.epoch + 1, 0
