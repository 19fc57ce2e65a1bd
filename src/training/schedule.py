"""The number of epochs, and the phases of each."""

import math
from collections.abc import Callable, Sequence

from algorithms.base import EvaluateWorld, Phase, PlayEpisodes, Save
from algorithms.config import CheckpointingConfig, CollectionConfig, EvaluationConfig, TrainerConfig
from training.progress import Progress


class Schedule:
    """The phases of each epoch (counted from 1). With collection, the number of epochs is known after the first one.

    The algorithm chooses its own phases in an epoch. Tests, videos and saved weights are added here, in the same epochs
    for every algorithm.
    """

    def __init__(
        self,
        collection: CollectionConfig,
        evaluation: EvaluationConfig,
        checkpointing: CheckpointingConfig,
        num_final_epochs: int,
        plays: bool,
        learn: Callable[[int], Sequence[Phase]],
    ) -> None:
        """`plays`: whether there are real environments. `learn(epoch)`: the algorithm's phases of an epoch."""
        self.plays = plays
        self._collection = collection
        self._evaluation = evaluation
        self._checkpointing = checkpointing
        self._num_final_epochs = num_final_epochs
        self.learn = learn

    @classmethod
    def of(cls, config: TrainerConfig, learn: Callable[[int], Sequence[Phase]]) -> "Schedule":
        """The schedule of a run with these settings."""
        plays = config.static_dataset.path is None
        final = config.training.num_final_epochs
        return cls(config.collection, config.evaluation, config.checkpointing, final, plays, learn)

    def num_epochs(self, first_collection: int | None) -> int:
        """The number of epochs; `first_collection` is the number of steps of the first collection, if it is over."""
        return self.num_collecting_epochs(first_collection) + self._num_final_epochs

    def is_over(self, progress: Progress) -> bool:
        """Whether the current epoch comes after the last one."""
        return progress.epoch > self.num_epochs(progress.first_collection)

    def num_collecting_epochs(self, first_collection: int | None) -> int:
        """The number of epochs with collection.

        They count even if the algorithm does not collect, so that all algorithms train for equally long.
        """
        if not self.plays:
            return 0
        train = self._collection.train
        first = min(train.first_epoch.min, train.num_steps_total) if first_collection is None else first_collection
        return 1 + max(0, math.ceil((train.num_steps_total - first) / train.steps_per_epoch))

    def phases(self, progress: Progress) -> list[Phase]:
        """The phases of the current epoch.

        Those after the algorithm's own phases depend on the number of epochs, which is known by then.
        """
        return [*self._before(progress), *self.learn(progress.epoch), *self._after(progress)]

    def is_untrained(self, progress: Progress) -> bool:
        """Whether the current phase comes before the algorithm's first phase."""
        return progress.phase < len(self._before(progress))

    def is_evaluated(self, epoch: int, num_epochs: int) -> bool:
        return epoch % self._evaluation.every == 0 or epoch == num_epochs

    def _before(self, progress: Progress) -> list[Phase]:
        return self._tests() if progress.epoch == 1 and self._evaluation.untrained else []

    def _after(self, progress: Progress) -> list[Phase]:
        epoch, num_epochs = progress.epoch, self.num_epochs(progress.first_collection)
        phases: list[Phase] = self._tests() if self.is_evaluated(epoch, num_epochs) else []
        if epoch % self._checkpointing.save_agent_every == 0 or epoch == num_epochs:
            phases.append(Save())
        if epoch == num_epochs and self.plays:
            count = self._collection.test.num_final_episodes
            # The last episodes are kept as test data: those of the policy.
            phases += [PlayEpisodes(count, "random", at_random=True), PlayEpisodes(count, "final")]
        return phases

    def _tests(self) -> list[Phase]:
        episodes: list[Phase] = [PlayEpisodes(self._collection.test.num_episodes)] if self.plays else []
        return [*episodes, EvaluateWorld()]
