"""From a run to its predictions, beside what was recorded or what happens now."""

import numpy as np

from data import Dataset, Spaces, with_stride
from data.full_frames import FILE_ID
from envs.kitchen import NUM_JOINTS, PUBLISHED, Look
from errors import UserError
from game.dataset_env import open_datasets
from game.live_env import LiveEnv
from game.prediction_env import PredictionEnv
from game.predictor import Predictor
from trained.opening import check_fits
from trained.source import Source


def open_predictions(
    name: str, source: Source, spaces: Spaces, predictor: Predictor, seed: int
) -> PredictionEnv | LiveEnv:
    """Predictions beside the run's data (`name`: data), or beside the simulated kitchen (live).

    Raises UserError if there is no such data or kitchen, or if it does not fit the model.
    """
    if name == "live":
        return _beside_kitchen(source, spaces, predictor, seed)
    return _beside_data(source, spaces, predictor)


def _beside_data(source: Source, spaces: Spaces, predictor: Predictor) -> PredictionEnv:
    """Test data comes first."""
    stride, datasets = source.config.static_dataset.stride, open_datasets(source.datasets)
    for dataset in datasets.values():
        check_fits(with_stride(dataset, stride), spaces, source)
    held_out_first = dict(sorted(datasets.items(), key=lambda each: each[0] != "test"))
    return PredictionEnv(held_out_first, predictor, stride)


def _beside_kitchen(source: Source, spaces: Spaces, predictor: Predictor, seed: int) -> LiveEnv:
    """The kitchen is drawn as the run's data was, or else as the published data."""
    stride, actions = source.config.static_dataset.stride, spaces.actions
    if actions.size > 0 and (actions.kind, actions.size) != ("continuous", stride * NUM_JOINTS):
        raise UserError(
            f"--env live is the simulated kitchen, whose actions are continuous ({NUM_JOINTS} entries), and those of "
            f"{source.folder} are {actions}."
        )
    datasets = filter(None, map(Dataset.open_if_any, source.datasets))
    made_from = (str(data.load_episode(0).info.get(FILE_ID, "")) for data in datasets)
    look = next(filter(None, map(Look.named_in, made_from)), PUBLISHED)
    return LiveEnv(predictor, stride, spaces.frame, look, np.random.default_rng(seed))
