"""Where the recordings come from that a world is measured on."""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data import Dataset, Episode, Spaces, find_splits, with_stride
from envs import RecordedGameConfig, make_env
from envs.trust import check_env
from errors import UserError
from evaluation.world_segments import Recordings
from rl.collector import Collector
from rl.policy import RandomPolicy
from trained.source import Source

RANDOM = "random"
NUM_ENVS, LONGEST_EPISODE, STEPS_PER_SEGMENT = 8, 2000, 4


def find_recordings(source: Source, spaces: Spaces, data: str | None, num_segments: int, seed: int) -> Recordings:
    """The data set `data`, new random episodes (`random`), or by default the run's test data, else random episodes.

    Raises UserError if there is no such data, if it does not fit the agent, or if there is no game to play.
    """
    if data not in (None, RANDOM):
        dataset = _open_given(Path(data))
    else:
        paths = [path for path in source.datasets if path.name == "test"] if data is None else []
        dataset = next(filter(None, map(Dataset.open_if_any, paths)), None)
    if dataset is None:
        return _play_at_random(source, spaces, num_segments, seed)
    dataset = with_stride(dataset, source.config.static_dataset.stride)
    _check_fits(dataset, spaces, source)
    are_own = data is None and dataset.directory.is_relative_to(source.folder)
    return Recordings(str(dataset.directory), np.array(dataset.lengths, np.int64), dataset.load_episode, are_own)


def _open_given(root: Path) -> Dataset:
    """The test data in a folder, or the single data set that it is; raises UserError if there is neither."""
    train, test = find_splits(root)
    if (found := Dataset.open_if_any(test)) is not None:
        return found
    if train.name == "train" and train != root:
        raise UserError(
            f"--data {root} has no test data: name {train}, if the world was not trained on it, or use --data {RANDOM}."
        )
    return Dataset.open(root)


def _check_fits(dataset: Dataset, spaces: Spaces, source: Source) -> None:
    frame, actions = dataset.spaces.frame, dataset.spaces.actions
    if frame != spaces.frame:
        raise UserError(
            f"The frames in {dataset.directory} are {frame}, but {source.folder} imagines {spaces.frame}: measure "
            f"it on data of its own size, or with --data {RANDOM}."
        )
    # Networks without actions go with any.
    if spaces.actions.size and (not actions.is_like(spaces.actions) or actions.size > spaces.actions.size):
        count = f" ({actions.size} of them)" if actions.kind == "numbered" else ""
        raise UserError(
            f"The actions in {dataset.directory} are {actions}{count}, but {source.folder} was trained with "
            f"{spaces.actions.size} {spaces.actions.kind} ones: measure it on data of its own game."
        )


def _play_at_random(source: Source, spaces: Spaces, num_segments: int, seed: int) -> Recordings:
    """Whole episodes of random actions, with several steps for each segment; games that are very long are cut off.

    They depend on the game, the number of segments and the seed only.
    """
    game = source.config.env.test
    if isinstance(game, RecordedGameConfig):
        raise UserError(
            f"{source.folder} has no test data, and {game.id} cannot be played here: name recordings with --data DIR."
        )
    check_env(game, source.trusts)
    env = make_env(game, NUM_ENVS, seed, torch.device("cpu"))
    if env.num_actions != spaces.actions.size:
        raise UserError(
            f"{game.id} has {env.num_actions} actions, but {source.folder} was trained with {spaces.actions.size}: "
            "name recordings with --data DIR."
        )
    torch.manual_seed(seed)
    episodes: list[Episode] = []

    def keep(episode: Episode, episode_id: int | None) -> int:
        episodes.append(episode)
        return len(episodes) - 1

    wanted = STEPS_PER_SEGMENT * num_segments
    collector = Collector(env, RandomPolicy(env.num_actions), keep, epsilon=0.0)
    with tqdm(total=wanted, desc="Playing at random", unit="step") as bar:
        while bar.n < wanted:
            # Every environment plays one episode: short ones must not be overrepresented.
            collector.begin(NUM_ENVS)
            before = bar.n
            for _ in range(LONGEST_EPISODE):
                collector.step()
                bar.update(before + collector.num_steps - bar.n)
                if collector.is_complete:
                    break
            collector.store_unfinished()
    env.close()
    lengths = np.array([len(episode) for episode in episodes], np.int64)
    return Recordings(f"{len(episodes)} random episodes of {game.id}", lengths, episodes.__getitem__)
