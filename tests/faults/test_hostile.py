"""Hundreds of command lines that make no sense: each gets one clear line, and none a traceback, a hang or silence."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import runs
from data import Dataset, Episode
from files import load_tensors, save_tensors
from training_helpers import train

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
NETWORKS = [*runs.SMALL_NETWORKS, *runs.SHORT_SCHEDULE]
Answer = tuple[int | None, str, str]


def read_cases() -> list[list[str]]:
    """Program and arguments of each line, and, in a [train] section, overrides of a small run."""
    cases, in_train = [], False
    for line in (HERE / "hostile_cases.txt").read_text().splitlines():
        if line.startswith("["):
            in_train = line.startswith("[train]")
        elif line and not line.startswith("#"):
            words = shlex.split(line)
            cases.append(["main.py", *runs.BREAKOUT, *NETWORKS, "hydra.run.dir={new}", *words] if in_train else words)
    return cases


def name_of(case: list[str]) -> str:
    return " ".join(word for word in case if word not in {*runs.BREAKOUT, *NETWORKS, "hydra.run.dir={new}"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def folders(root: Path) -> dict[str, str]:
    """What the names in the command lines stand for."""
    names = ("run", "data", "other_size", "empty", "text", "new", *SPOILED_RUNS, *SPOILED_DATA)
    places = {name: root / name for name in names}
    train(places["run"])
    places["empty"].mkdir()
    places["text"].write_text("This is no run.\n")
    for name, spoil in SPOILED_RUNS.items():
        shutil.copytree(places["run"], places[name])
        spoil(places[name])
    for name in ("data", *SPOILED_DATA):
        write_episodes(places[name])
    for name, spoil in SPOILED_DATA.items():
        spoil(places[name] / "train")
    write_episodes(places["other_size"], size=24)
    recorded = [*runs.BREAKOUT, *NETWORKS, f"hydra.run.dir={places['new']}"]
    return {name: str(path) for name, path in places.items()} | {"recorded": " ".join(recorded)}


def write_episodes(folder: Path, size: int = 16) -> None:
    for part in ("train", "test"):
        dataset = Dataset(folder / part)
        for length in (30, 20):
            flags = torch.zeros(length, dtype=torch.uint8)
            obs = torch.randint(256, (length, 3, size, size), dtype=torch.uint8)
            info = {"final_observation": obs[-1]}
            dataset.add_episode(Episode(obs, torch.arange(length) % 4, torch.zeros(length), flags, flags, info))
        dataset.save_info()


def change(path: Path, **entries: Callable[[Any], Any]) -> None:
    stored = load_tensors(path)
    save_tensors(stored | {name: spoil(stored[name]) for name, spoil in entries.items()}, path)


def changes(**entries: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes entries of the last episode of a data set."""
    return lambda folder: change(Dataset(folder).episode_path(1), **entries)


def set_at(step: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def put(values: torch.Tensor) -> torch.Tensor:
        values[step] = value
        return values

    return put


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def weights(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("**/*agent*.pt")) + sorted((run / "checkpoints").glob("best.pt"))


def make_weights_nan(run: Path) -> None:
    for path in [*weights(run), run / "checkpoints" / "state.pt"]:
        stored = load_tensors(path)
        tensors = stored.get("agent", stored)
        for name, values in tensors.items():
            tensors[name] = values / 0 if torch.is_tensor(values) and values.is_floating_point() else values
        save_tensors(stored, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_weights(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def settings(content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / "config" / "trainer.yaml").write_bytes(content)


def state(spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda run: spoil(run / "checkpoints" / "state.pt")


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n".encode()
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
SPOILED_RUNS: dict[str, Callable[[Path], object]] = {
    "list_state": state(lambda path: save_tensors([1, 2], path)),
    "empty_state": state(lambda path: path.write_bytes(b"")),
    "cut_state": state(cut),
    "text_state": state(lambda path: path.write_text("state")),
    "unknown_phase": state(
        lambda path: change(path, progress=lambda progress: {**progress, "phase": 99, "is_finished": False})
    ),
    "no_data": lambda run: shutil.rmtree(run / "dataset"),
    "bomb": settings(BOMB),
    "no_config": lambda run: (run / "config" / "trainer.yaml").unlink(),
    "empty_config": settings(b""),
    "list_config": settings(b"[1, 2]\n"),
    "binary_config": settings(bytes(range(256))),
    "nan_weights": make_weights_nan,
    "cut_weights": lambda run: [cut(path) for path in [*weights(run), run / "checkpoints" / "state.pt"]],
    "no_weights": remove_weights,
}
SPOILED_DATA: dict[str, Callable[[Path], object]] = {
    "nan_reward": changes(rew=set_at(2, float("nan"))),
    "float_frames": changes(obs=lambda obs: obs.float()),
    "negative_action": changes(act=set_at(3, -1)),
    "large_action": changes(act=set_at(0, 1 << 40)),
    "flag_of_two": changes(end=set_at(5, 2)),
    "mixed_sizes": changes(obs=lambda obs: obs[..., :8].clone()),
    "short_rewards": changes(rew=lambda rew: rew[:3].clone()),
    "sparse": changes(rew=lambda rew: rew.to_sparse()),
    "fifo": lambda folder: replace(Dataset(folder).episode_path(1), os.mkfifo),
    "link": lambda folder: replace(Dataset(folder).episode_path(1), lambda path: path.symlink_to("/etc/passwd")),
    "pickle": lambda folder: Dataset(folder).episode_path(1).write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR."),
}


@pytest.fixture(scope="module")
def ask(root: Path) -> Iterator[Callable[[list[str]], Answer]]:
    """Runs a command line in an empty folder."""
    (root / "here").mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**runs.environment(), "XDG_CACHE_HOME": str(root / "cache")}
    command = [sys.executable, str(HERE / "forked.py")]
    with subprocess.Popen(command, cwd=root / "here", env=environment, **pipes) as server:

        def ask(words: list[str]) -> Answer:
            print(json.dumps(words), file=server.stdin, flush=True)
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.mark.parametrize("case", read_cases(), ids=name_of)
def test_refused_by_one_line(
    case: list[str], root: Path, folders: dict[str, str], ask: Callable[[list[str]], Answer]
) -> None:
    shutil.rmtree(root / "new", ignore_errors=True)
    code, out, err = ask([part for word in case for part in fill(word, folders)])
    assert code == 2, (code, out, err)
    # argparse shows its usage first, in several lines.
    message = re.sub(r"\Ausage: .*\n( .*\n)*", "", err.lstrip())
    lines = [line for line in message.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert "error: " in lines[0]
    assert not list((root / "here").iterdir()), "It left something in the current folder."
    assert not any((root / "new").glob("**/*.pt")), "It began a run."


def fill(word: str, folders: dict[str, str]) -> list[str]:
    """The word with folders in place of their names; `{recorded}` stands for several words."""
    filled = re.sub(r"\{(\w+)\}", lambda found: folders.get(found[1], found[0]), word)
    return filled.split(" ") if word == "{recorded}" else [filled]


def test_there_are_more_than_three_hundred() -> None:
    names = [name_of(case) for case in read_cases()]
    assert len(set(names)) == len(names) > 300
