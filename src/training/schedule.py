"""Which epochs there are, and what is due in each."""

import math

from training.config import TrainerConfig


class Schedule:
    """Epochs count from 1. With collection, their number is known once the first collection is over."""

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self.collects = config.static_dataset.path is None and not config.run.model_free
        self.plays = config.static_dataset.path is None

    def num_epochs(self, first_collection: int | None) -> int:
        """All epochs of the run; `first_collection` counts the steps of the first collection, if it is over."""
        return self.num_collecting_epochs(first_collection) + self._config.run.num_final_epochs

    def num_collecting_epochs(self, first_collection: int | None) -> int:
        """The epochs that begin with collection (model-free: as many as would, for the same length of training)."""
        if not self.plays:
            return 0
        collect = self._config.collect_train
        remaining = collect.num_steps_total - (first_collection or self.collection_bounds(True, 0)[0])
        return 1 + max(0, math.ceil(remaining / collect.steps_per_epoch))

    def collection_bounds(self, is_first: bool, num_steps_before: int) -> tuple[int, int]:
        """The least and the most steps of a collection that begins with `num_steps_before` steps."""
        collect = self._config.collect_train
        room = collect.num_steps_total - num_steps_before
        if not is_first:
            return min(collect.steps_per_epoch, room), min(collect.steps_per_epoch, room)
        return min(collect.first_epoch.min, room), min(collect.first_epoch.max, room)

    def is_evaluated(self, epoch: int, num_epochs: int) -> bool:
        return epoch % self._config.evaluation.every == 0 or epoch == num_epochs

    def is_saved(self, epoch: int, num_epochs: int) -> bool:
        return epoch % self._config.checkpointing.save_agent_every == 0 or epoch == num_epochs
