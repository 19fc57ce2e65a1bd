"""Looking through stored episodes, step by step."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from data import Dataset, Episode, to_bytes
from errors import UserError
from game.view import Field, View

PAGE = 10


class DatasetEnv:
    """A place in one of several data sets: an episode, and a step of it."""

    repeating_keys = frozenset({"up", "down", "left", "right", "page up", "page down"})

    def __init__(self, datasets: dict[str, Dataset], action_names: Sequence[str]) -> None:
        """`action_names` may be empty: then actions are shown by their numbers."""
        self.datasets = datasets
        self.action_names = action_names
        self.is_playing = False
        self.digits = ""
        self._message = ""
        self._name = next(iter(datasets))
        self._load = lru_cache(maxsize=8)(lambda name, episode_id: datasets[name].load_episode(episode_id))
        self._go_to_episode(0)

    @property
    def dataset(self) -> Dataset:
        return self.datasets[self._name]

    @property
    def num_places(self) -> int:
        """Steps of the episode, and the frame behind them where it is known."""
        return len(self.episode) + ("final_observation" in self.episode.info)

    def press(self, key: str) -> None:
        self._message = ""
        if len(key) == 1 and key.isdigit():
            self.digits += key
            return
        digits, self.digits = self.digits, self.digits[:-1] if key == "backspace" else ""
        match key:
            case "return" if digits:
                self._jump(int(digits))
            case "return":
                self.step = 0
            case "m":
                names = list(self.datasets)
                self._name = names[(names.index(self._name) + 1) % len(names)]
                self._go_to_episode(0)
            case "up" | "down":
                by = 1 if key == "up" else -1
                self._go_to_episode((self.episode_id + by) % self.dataset.num_episodes)
            case "left" | "right":
                self._go_to_step(self.step + (1 if key == "right" else -1))
            case "page up" | "page down":
                self._go_to_step(self.step + (PAGE if key == "page up" else -PAGE))
            case "space":
                self.is_playing = not self.is_playing
                if self.is_playing and self.step == self.num_places - 1:
                    self.step = 0

    def tick(self, held: list[str]) -> None:
        if self.is_playing:
            self._go_to_step(self.step + 1)
            self.is_playing = self.step < self.num_places - 1

    def close(self) -> None:
        """Nothing is changed by looking."""

    def view(self) -> View:
        episode, step, dataset = self.episode, self.step, self.dataset
        is_step = step < len(episode)
        count, longest = dataset.num_episodes - 1, max(dataset.lengths)
        fields = (
            Field("data set", self._name, 9 + max(map(len, self.datasets))),
            Field("episode", f"{self.episode_id} of 0-{count}", 14 + 2 * len(str(count))),
            Field("step", f"{step} of 0-{len(episode) - 1}" if is_step else "final", 11 + 2 * len(str(longest))),
            Field("action", self._action() if is_step else "-", 7 + max(map(len, self.action_names), default=4)),
            Field("reward", f"{float(episode.rew[step]):+g}" if is_step else "-", 12),
            Field("end", _yes(episode.end, step), 7),
            Field("trunc", _yes(episode.trunc, step), 9),
            Field("return so far", f"{float(episode.rew[: step + 1].sum()):g}", 20),
            Field("to go", f"{float(episode.rew[step + 1 :].sum()):g}", 12),
        )
        frame = episode.obs[step] if is_step else episode.info["final_observation"]
        message = f"go to episode {self.digits}_" if self.digits else self._message
        return View(frame, fields, strip=self._trajectory(), message=message)

    def _go_to_episode(self, episode_id: int) -> None:
        self.episode_id, self.step = episode_id, 0
        self.episode: Episode = self._load(self._name, episode_id)

    def _go_to_step(self, step: int) -> None:
        self.step = min(max(step, 0), self.num_places - 1)

    def _jump(self, wanted: int) -> None:
        count = self.dataset.num_episodes
        if wanted < count:
            self._go_to_episode(wanted)
        else:
            self._message = f"there is no episode {wanted}: 0 to {count - 1}"

    def _action(self) -> str:
        act = int(self.episode.act[self.step])
        return self.action_names[act] if act < len(self.action_names) else str(act)

    def _trajectory(self) -> tuple[Tensor, ...]:
        """From noise to the next frame, where that was stored."""
        stored = self.episode.info.get("denoising_trajectory")
        if stored is None or self.step >= len(stored):
            return ()
        return tuple(to_bytes(stored[self.step].float()))


def open_datasets(folders: list[Path]) -> dict[str, Dataset]:
    """Every data set that holds an episode, directly in one of these folders, by name.

    Raises UserError when there is none.
    """
    found = {}
    for folder in folders:
        for path in sorted(folder.iterdir(), key=_train_and_test_first) if folder.is_dir() else []:
            dataset = Dataset.open_if_any(path)
            if dataset is not None:
                found.setdefault(path.name, dataset)
    if not found:
        raise UserError(f"There is no data set with an episode in {folders[0]}.")
    return found


def _train_and_test_first(path: Path) -> tuple[bool, bool, str]:
    return path.name != "train", path.name != "test", path.name


def _yes(flags: Tensor, step: int) -> str:
    return "-" if step >= len(flags) else "yes" if flags[step] else "no"
