"""Looking through stored episodes, step by step."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from data import ActionLayout, Dataset, Episode, FullFrames, Segments, to_bytes
from data.full_frames import FILE_ID
from errors import UserError
from game.choices import check_word
from game.idle_keys import LONGEST_NAME, vector_name
from game.inputs import Command, GoTo, Pause, Press, SetDataset
from game.layout_keys import LayoutKeys
from game.view import Choice, Field, View

PAGE = 10
DIGITS = tuple("0123456789")


class DatasetEnv:
    """A place in one of several data sets: an episode, and a step of it."""

    repeating_keys = frozenset({"up", "down", "left", "right", "page up", "page down"})
    game_keys = frozenset()
    wants_pointer = False
    is_over = False
    help = (
        ("← →", "one step"),
        ("PgUp PgDn", f"{PAGE} steps"),
        ("↑ ↓", "episode"),
        ("m", "data set"),
        ("space", "play, stop"),
        ("digits Enter", "go to an episode"),
        ("Enter", "first step"),
    )

    def __init__(
        self,
        datasets: dict[str, Dataset],
        action_names: Sequence[str],
        layout: ActionLayout | None = None,
        full_res: Path | None = None,
    ) -> None:
        """Without `action_names`, actions are shown by their numbers. `layout` names multi-hot ones.

        `full_res`: the folder of the frames in full size of recordings, where they exist.
        """
        self.datasets = datasets
        self.action_names = action_names
        self._keys = None if layout is None else LayoutKeys(layout)
        self.is_playing = False
        self.digits = ""
        self._message = ""
        self._name = next(iter(datasets))
        self._full_res = full_res
        self._full_size = lru_cache(maxsize=4)(lambda name: FullFrames(full_res, datasets[name]))
        self._load = lru_cache(maxsize=8)(lambda name, episode_id: datasets[name].load_episode(episode_id))
        self._go_to_episode(0)

    @property
    def is_still(self) -> bool:
        return not self.is_playing

    @property
    def dataset(self) -> Dataset:
        return self.datasets[self._name]

    @property
    def pace(self) -> int:
        """Steps from one place to the next while it plays."""
        return 1

    @property
    def num_places(self) -> int:
        """Steps of the episode, and the frame after them where it is known."""
        return len(self.episode) + ("final_observation" in self.episode.info)

    def press(self, key: str) -> None:
        self._message = ""
        if key in DIGITS:
            self.digits += key
            return
        digits, self.digits = self.digits, self.digits[:-1] if key == "backspace" else ""
        match key:
            case "return" if digits:
                self._jump(int(digits))
            case "return":
                self._go_to_step(0)
            case "m":
                names = list(self.datasets)
                self.obey(SetDataset(names[(names.index(self._name) + 1) % len(names)]))
            case "up" | "down":
                by = 1 if key == "up" else -1
                self._go_to_episode((self.episode_id + by) % self.dataset.num_episodes)
            case "left" | "right":
                self._go_to_step(self.step + (1 if key == "right" else -1))
            case "page up" | "page down":
                self._go_to_step(self.step + (PAGE if key == "page up" else -PAGE))
            case "space":
                self.is_playing = not self.is_playing
                if self.is_playing and self.step + self.pace >= self.num_places:
                    self._go_to_step(0)

    def obey(self, command: Command) -> None:
        """Do what a person wants; raises UserError for what does not exist."""
        match command:
            case Press(key):
                self.press(key)
            case Pause():
                self.is_playing = False
            case SetDataset(name):
                check_word("dataset", name, list(self.datasets))
                self._name = name
                self._go_to_episode(0)
            case GoTo(episode, step):
                if not 0 <= episode < self.dataset.num_episodes:
                    raise UserError(f"There is no episode {episode}: 0 to {self.dataset.num_episodes - 1}.")
                if episode != self.episode_id:
                    self._go_to_episode(episode)
                self._go_to_step(step)

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        if self.is_playing:
            self._go_to_step(self.step + self.pace)
            self.is_playing = self.step + self.pace < self.num_places

    def close(self) -> None:
        """Nothing has to be stored."""

    def view(self) -> View:
        is_step = self.step < len(self.episode)
        fields = (
            *self.place,
            Field("action", self._action() if is_step else None, 7 + self._longest_action()),
            *(self._outcomes() if self._has_outcomes else ()),
        )
        frame, full = self.frame(self.step), self._full_frame() if is_step else None
        preview = None if full is None else frame
        strip = self._trajectory()
        shown = frame if full is None else full
        return View(shown, fields, (), strip, self.message, preview, choices=self.choices)

    @property
    def place(self) -> tuple[Field, ...]:
        """Data set, episode and step."""
        step, count, longest = self.step, self.dataset.num_episodes - 1, max(self.dataset.lengths)
        last = len(self.episode) - 1
        return (
            Field("data set", self._name, 9 + max(map(len, self.datasets))),
            Field("episode", self.episode_id, 14 + 2 * len(str(count)), unit=f" of 0-{count}"),
            Field("step", step if step <= last else "final", 11 + 2 * len(str(longest)), unit=f" of 0-{last}"),
        )

    @property
    def choices(self) -> tuple[Choice, ...]:
        return (
            Choice("dataset", self._name, tuple(self.datasets)),
            Choice("episode", self.episode_id, least=0, most=self.dataset.num_episodes - 1),
            Choice("step", self.step, least=0, most=self.num_places - 1),
        )

    @property
    def message(self) -> str:
        return f"go to episode {self.digits}_" if self.digits else self._message

    def frame(self, step: int) -> Tensor | None:
        """The frame (c, h, w) at a step, also after the last one; None where it is not known."""
        if step < len(self.episode):
            return self.episode.obs[step]
        return self.episode.info.get("final_observation") if step == len(self.episode) else None

    @property
    def _has_outcomes(self) -> bool:
        """Whether this data set has rewards or ends at all: recordings of people's games have none."""
        info = self.dataset.info
        return any(info.counter_rew[sign] for sign in (-1, 1)) or bool(info.counter_end[1])

    def _outcomes(self) -> tuple[Field, ...]:
        episode, step = self.episode, self.step
        return (
            Field("reward", float(episode.rew[step]) if step < len(episode) else None, 14, "+"),
            Field("end", _flag(episode.end, step), 7),
            Field("trunc", _flag(episode.trunc, step), 9),
            Field("return so far", float(episode.rew[: step + 1].sum()), 23),
            Field("to go", float(episode.rew[step + 1 :].sum()), 15),
        )

    def _full_frame(self) -> Tensor | None:
        """This step's frame in full size, where the recording of the episode is still there."""
        if self._full_res is None or FILE_ID not in self.episode.info:
            return None
        segment = Segments(np.array([self.episode_id]), np.array([self.step]), 1)
        try:
            return self._full_size(self._name).gather(segment)[0, 0]
        except UserError as error:
            self._message = str(error)
            return None

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

    def _longest_action(self) -> int:
        if self._keys is not None:
            return self._keys.longest_name
        return LONGEST_NAME if self.episode.act.ndim > 1 else max(map(len, self.action_names), default=4)

    def _action(self) -> str:
        act = self.episode.act[self.step]
        if act.ndim > 0:
            return self._keys.name(act) if self._keys is not None else vector_name(act)
        act = int(act)
        return self.action_names[act] if act < len(self.action_names) else str(act)

    def _trajectory(self) -> tuple[Tensor, ...]:
        """How the next frame (the last one: itself) was sampled from noise; empty where that was not stored."""
        stored = self.episode.info.get("denoising_trajectory")
        return () if stored is None else tuple(to_bytes(stored[min(self.step, len(stored) - 1)].float()))


def open_datasets(paths: list[Path]) -> dict[str, Dataset]:
    """The data sets that hold an episode, by name, train and test first.

    Raises UserError when there is none.
    """
    found: dict[str, Dataset] = {}
    for path in sorted(paths, key=lambda path: (path.name != "train", path.name != "test", path.name)):
        dataset = Dataset.open_if_any(path)
        if dataset is not None:
            found.setdefault(path.name, dataset)
    if not found:
        raise UserError("There is no data set with an episode in this run.")
    return found


def _flag(flags: Tensor, step: int) -> bool | None:
    return bool(flags[step]) if step < len(flags) else None
