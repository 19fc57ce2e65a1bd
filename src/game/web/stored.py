"""Stored episodes as films to download."""

import tempfile
from pathlib import Path

from errors import UserError
from game.dataset_env import DatasetEnv
from game.view import Playable
from run.media import write_video

FPS = 15
LEAST_HEIGHT = 256


def film_of_episode(playable: Playable | None, query: dict[str, list[str]]) -> bytes:
    """An .mp4 of one episode of a data set that is browsed; raises UserError if there is no such episode.

    Data sets and episodes are named by what the page lists: no path is taken from the request.
    """
    if not isinstance(playable, DatasetEnv):
        raise UserError("There is no data set here.")
    name, episode_id = query.get("dataset", [""])[0], query.get("episode", [""])[0]
    dataset = playable.datasets.get(name)
    if dataset is None or not episode_id.isdecimal() or len(episode_id) > 9 or int(episode_id) >= dataset.num_episodes:
        raise UserError("There is no such episode.")
    obs = dataset.load_episode(int(episode_id)).obs
    scale = max(1, LEAST_HEIGHT // obs.size(2))
    frames = obs.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    size = obs.size(2) * scale // 2 * 2, obs.size(3) * scale // 2 * 2
    large = (frame.repeat(scale, 0).repeat(scale, 1)[: size[0], : size[1]] for frame in frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        write_video(large, size, path, FPS)
        return path.read_bytes()
