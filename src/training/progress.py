"""The progress of a run."""

from dataclasses import dataclass


@dataclass
class Progress:
    """The current epoch and phase, the progress of the phase, and results that later phases need.

    `steps` is the number of steps that an `Interleave` phase has collected so far, and `has_collected` whether these
    are all. The last film was made when `filmed_at` steps had been collected. `first_collection` is the number of steps
    collected in the first epoch. `best_return` was reached in `best_epoch`.
    """

    epoch: int = 1
    phase: int = 0
    phase_has_begun: bool = False
    steps: int = 0
    has_collected: bool = False
    filmed_at: int | None = None
    first_collection: int | None = None
    best_return: float | None = None
    best_epoch: int | None = None
    is_finished: bool = False

    def next_phase(self) -> None:
        self.phase, self.phase_has_begun, self.steps, self.has_collected = self.phase + 1, False, 0, False

    def next_epoch(self) -> None:
        self.epoch, self.phase = self.epoch + 1, 0
