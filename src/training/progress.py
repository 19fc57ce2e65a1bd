"""The progress of a run."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Progress:
    """The current epoch and phase, the progress of the phase, and results that later phases need.

    `steps` is the number of steps that an `Interleave` phase has collected so far, and `has_collected` whether these
    are all. The last film was made when `filmed_at` steps had been collected. `first_collection` is the number of steps
    collected in the first epoch. `best_return`, a mean of test episodes, was reached in `best_epoch`; `best_score` is
    the highest return of a training episode.
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
    best_score: float | None = None
    is_finished: bool = False

    def see_scores(self, scores: Sequence[float]) -> None:
        """Remember the best of these returns of training episodes, if it is better than earlier ones."""
        earlier = [] if self.best_score is None else [self.best_score]
        self.best_score = max([*earlier, *scores], default=None)

    def next_phase(self) -> None:
        self.phase, self.phase_has_begun, self.steps, self.has_collected = self.phase + 1, False, 0, False

    def next_epoch(self) -> None:
        self.epoch, self.phase = self.epoch + 1, 0
