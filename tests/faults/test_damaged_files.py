"""Files that are damaged, or made to do harm: one line for each, and nothing in them runs."""

import io
import json
import pickle
import random
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.lib import format as npy_format
from omegaconf.errors import OmegaConfBaseException

import main
from agent import read_weights
from algorithms import read_settings
from algorithms.base import Surroundings
from algorithms.size import check_size
from data import Actions, Dataset, Episode, Spaces
from data.full_frames import read_actions, read_frames
from errors import UserError
from files import load_array, load_json, load_tensors, save_tensors
from game.build import PlayConfig, build_play_env
from run.config import register_resolvers
from run.folder import RunFolder
from run.ranks import Ranks
from run.settings import load_yaml
from trained.source import load_config, load_source
from trainer import Trainer
from training.checkpoint import read_state
from training_helpers import CPU, compose, make_trainer, train

SEED = 20261121


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _signals_come_back() -> Iterator[None]:
    """A trainer listens to signals until its process ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def make_episode(length: int = 3) -> Episode:
    flags = torch.zeros(length, dtype=torch.uint8)
    obs = torch.randint(256, (length, 3, 2, 2), dtype=torch.uint8)
    return Episode(obs, torch.arange(length), torch.ones(length), flags, flags, {"final_observation": obs[0]})


def open_dataset(info: Path) -> Dataset:
    if not (info.parent / "000").exists():
        make_episode().save(Dataset(info.parent).episode_path(0))
    return Dataset.open(info.parent)


def open_settings(path: Path) -> Any:
    return read_settings(load_config(path.parent.parent))


def open_state(path: Path) -> Any:
    return read_state(RunFolder(path.parent.parent))


def open_recording(path: Path) -> Any:
    return read_frames(path, range(2)), read_actions(path)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "weights": ("weights.pt", read_weights),
    "state": ("run/checkpoints/state.pt", open_state),
    "episode": ("0.pt", Episode.load),
    "info": ("data/info.pt", open_dataset),
    "array": ("low_res.npy", load_array),
    "settings": ("run/config/trainer.yaml", open_settings),
    "widths": ("played/agent_config.json", lambda path: load_config(path.parent)),
    "recording": ("a.hdf5", open_recording),
}
"""For each kind of file that the project reads, where it lies, and what reads it."""


def place(root: Path, kind: str, content: bytes) -> Path:
    path = root / READERS[kind][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(kind: str, path: Path) -> None:
    """Read a file; UserError has to be one line, and no other error is allowed."""
    words = ""
    try:
        READERS[kind][1](path)
    except UserError as error:
        words = str(error)
    except OmegaConfBaseException:
        # The entry points print it as one line, too.
        return
    assert len(words.splitlines()) < 2, words


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A whole file of each kind."""
    root = tmp_path_factory.mktemp("good")
    save_tensors({"denoiser.weight": torch.randn(2, 3)}, root / "weights.pt")
    progress = {"epoch": 1, "phase": 0, "is_finished": False}
    save_tensors({"progress": progress, "agent": {"a": torch.zeros(1)}}, root / "state.pt")
    make_episode().save(root / "0.pt")
    dataset = Dataset(root / "data")
    dataset.add_episode(make_episode())
    dataset.save_info()
    np.save(root / "low_res.npy", np.zeros((2, 3, 4, 4), np.uint8))
    with h5py.File(root / "a.hdf5", "w") as file:
        for step in range(2):
            file[f"frame_{step}_x"], file[f"frame_{step}_y"] = np.zeros((4, 5, 3), np.uint8), np.zeros(6)
    widths = {"denoiser": {"inner_model": {"channels": [8, 8]}}, "rew_end_model": {}, "env_id": "a"}
    (root / "agent_config.json").write_text(json.dumps(widths | {"actor_critic": {"img_size": 16}}))
    (root / "trainer.yaml").write_text(
        "agent:\n  denoiser: {channels: [8, 8]}\nenv:\n  train: &a {id: b}\n  test: *a\n"
    )
    dataset.info_path.replace(root / "info.pt")
    return {kind: (root / Path(name).name).read_bytes() for kind, (name, _) in READERS.items()}


BEGINNINGS = (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n", b"{", b"[")


def random_files() -> Iterator[bytes]:
    rng = random.Random(SEED)
    while True:
        yield rng.choice(BEGINNINGS) + rng.randbytes(rng.randrange(300))


def mutations(content: bytes) -> Iterator[bytes]:
    rng = random.Random(SEED)
    while True:
        spoilt = bytearray(content)
        for _ in range(rng.randrange(1, 9)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        start = rng.randrange(len(spoilt))
        match rng.randrange(4):
            case 0:
                del spoilt[start:]
            case 1:
                del spoilt[start : start + rng.randrange(20)]
            case 2:
                spoilt[start:start] = rng.randbytes(rng.randrange(20))
        yield bytes(spoilt)


@pytest.mark.slow
def test_3000_random_files_are_one_line_each(tmp_path: Path) -> None:
    for number, content in zip(range(3000), random_files(), strict=False):
        kind = list(READERS)[number % len(READERS)]
        read(kind, place(tmp_path, kind, content))


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_3000_changed_files_are_read_or_one_line_each(tmp_path: Path, good: dict[str, bytes], kind: str) -> None:
    for _, content in zip(range(3000 // len(READERS)), mutations(good[kind]), strict=False):
        read(kind, place(tmp_path, kind, content))


def test_whole_files_are_read(tmp_path: Path, good: dict[str, bytes]) -> None:
    for kind in good.keys() - {"settings", "widths"}:
        READERS[kind][1](place(tmp_path, kind, good[kind]))


def dangerous_calls(canary: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Functions with which a pickle can run code, as `picklescan` lists them, and arguments that leave a canary."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    for module in ("os", "posix", "nt"):
        yield module, "system", (shell,)
        yield module, "popen", (shell,)
    for module in ("builtins", "__builtin__"):
        yield module, "eval", (python,)
        yield module, "exec", (python,)
        yield module, "open", (str(canary), "w")
    for name in ("getoutput", "getstatusoutput", "Popen", "call", "check_output", "run"):
        yield "subprocess", name, (shell,)
    for module, name in (
        *(("timeit", "timeit"), ("cProfile", "run"), ("profile", "run"), ("pdb", "run"), ("code", "interact")),
        *(("numpy.testing._private.utils", "runstring"), ("doctest", "debug_script"), ("bdb", "Bdb")),
        *(("torch.jit.unsupported_tensor_ops", "execWrapper"), ("torch.utils.collect_env", "run")),
    ):
        yield module, name, (python, "{}")
    for module, name in (
        *(("runpy", "run_path"), ("runpy", "run_module"), ("torch.hub", "load"), ("torch", "load")),
        *(("torch.serialization", "load"), ("torch.jit", "load"), ("numpy", "load"), ("shutil", "copyfile")),
        *(("pkgutil", "resolve_name"), ("pydoc", "locate"), ("pydoc", "pipepager"), ("webbrowser", "open")),
        *(("_io", "FileIO"), ("logging", "FileHandler"), ("pty", "spawn"), ("uuid", "_get_command_stdout")),
        *(("functools", "partial"), ("operator", "attrgetter"), ("operator", "methodcaller"), ("pickle", "loads")),
        *(("importlib", "import_module"), ("ctypes", "CDLL"), ("socket", "create_connection")),
    ):
        yield module, name, (str(canary), "w")


def pickle_calling(module: str, name: str, arguments: tuple[str, ...]) -> bytes:
    values = b"".join(b"V" + argument.encode("raw-unicode-escape") + b"\n" for argument in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + values + b"tR."


def tensor_files(payload: bytes) -> dict[str, bytes]:
    """The payload in every format that `torch.load` knows."""
    magic = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    return {
        "pickle": payload,
        "legacy": b"".join(magic) + payload + pickle.dumps([], protocol=2),
        "payload first": payload + b"".join(magic),
        "zip": _zip({"archive/data.pkl": payload, "archive/version": b"3", "archive/byteorder": b"little"}),
        "TorchScript": _zip(
            {
                "archive/data.pkl": payload,
                "archive/constants.pkl": payload,
                "archive/version": b"3",
                "archive/code/__torch__.py": b"import os",
            }
        ),
        "tar": _tar({"storages": payload, "tensors": payload, "pickle": payload}),
    }


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def test_the_payloads_are_dangerous(tmp_path: Path) -> None:
    """Without this, the next test would show nothing."""
    canary = tmp_path / "canary"
    pickle.loads(pickle_calling("os", "system", (f"touch {canary}",)))
    assert canary.exists()


def test_picklescan_knows_the_payloads(tmp_path: Path) -> None:
    scanner = pytest.importorskip("picklescan.scanner")
    found = [
        scanner.scan_pickle_bytes(io.BytesIO(pickle_calling(*each)), "payload").issues_count
        for each in dangerous_calls(tmp_path / "canary")
    ]
    assert sum(count > 0 for count in found) > 0.7 * len(found)


@pytest.mark.slow
def test_payloads_in_tensor_files_do_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for module, name, arguments in dangerous_calls(canary):
        for content in tensor_files(pickle_calling(module, name, arguments)).values():
            for kind in ("weights", "state", "episode", "info"):
                path = place(tmp_path, kind, content)
                with pytest.raises(UserError, match=r"is refused|is damaged"):
                    READERS[kind][1](path)
                assert not canary.exists(), (module, name, kind)


def test_payloads_in_arrays_do_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for call in dangerous_calls(canary):
        header = io.BytesIO()
        npy_format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        array = header.getvalue() + pickle_calling(*call)
        for content in (array, pickle_calling(*call), _zip({"low_res.npy": array})):
            path = place(tmp_path, "array", content)
            with pytest.raises(UserError, match="cannot be read"):
                load_array(path)
            assert not canary.exists(), call


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch CANARY']",
        "agent: !!python/object/apply:subprocess.check_output [['touch', 'CANARY']]",
        "agent: !!python/object/new:os.system ['touch CANARY']",
        "agent: !!python/name:os.system\nenv: {}",
        "agent: {_target_: os.system, command: touch CANARY}\nenv: {train: {_target_: os.system}}",
        'agent: {denoiser: "${eval:\'__import__(\\"os\\").system(\\"touch CANARY\\")\'}"}\nenv: {train: {id: a}}',
        "agent: {denoiser: '${oc.decode:${oc.create:os.system}}'}\nenv: {train: {id: a}}",
        "algorithm: {name: 'os:system'}",
    ],
)
def test_payloads_in_settings_do_not_run(tmp_path: Path, text: str) -> None:
    register_resolvers()
    canary = tmp_path / "canary"
    text = text.replace("CANARY", str(canary))
    with pytest.raises((UserError, OmegaConfBaseException)):
        open_settings(place(tmp_path, "settings", text.encode()))
    widths = {"denoiser": text, "rew_end_model": {"_target_": "os.system"}, "actor_critic": {"img_size": text}}
    path = place(tmp_path, "widths", json.dumps(widths | {"env_id": text}).encode())
    with pytest.raises((UserError, OmegaConfBaseException)):
        read_settings(load_config(path.parent))
    assert not canary.exists()


def test_payloads_in_recordings_do_not_run(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.hdf5"
    for call in dangerous_calls(canary):
        with h5py.File(path, "w") as file:
            for step in range(2):
                file[f"frame_{step}_x"] = np.void(pickle_calling(*call))
                file[f"frame_{step}_y"] = [pickle_calling(*call)]
        for reader in (lambda: read_frames(path, range(2)), lambda: read_actions(path)):
            with pytest.raises(UserError):
                reader()
        assert not canary.exists(), call


def test_a_frame_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("frame_0_x", (10**6, 10**6, 3), np.uint8, chunks=(10, 10, 3))
    with pytest.raises(UserError, match="frame_0_x is uint8"):
        read_frames(tmp_path / "a.hdf5", [0])


def test_an_alias_bomb(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    for text in ("\n".join(lines), "a: &a [*a]", "a: &a {b: *a}"):
        path = place(tmp_path, "settings", text.encode())
        with pytest.raises(UserError, match="its aliases stand for more than 10000 values"):
            load_yaml(path)
    path.write_text("a: &a {b: 1}\nc: *a\n")
    assert load_yaml(path) == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_reference_bomb(tmp_path: Path) -> None:
    texts = ["a0: xxxxxxxxxx"] + [f"a{n}: ${{a{n - 1}}}${{a{n - 1}}}" for n in range(1, 40)]
    sections = ["a0: {x: 1}"] + [f"a{n}: {{x: '${{a{n - 1}}}', y: '${{a{n - 1}}}'}}" for n in range(1, 40)]
    for lines, words in ((texts, "could repeat a text"), (sections, "stand for more than")):
        path = place(tmp_path, "settings", "\n".join(lines).encode())
        with pytest.raises(UserError, match=f"its references {words}"):
            load_yaml(path)
    path.write_text("a: {b: 1}\nc: '${a}'\nd: ${a.b}${missing}\n")
    assert load_yaml(path).c == {"b": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "cannot be read: it is not JSON"),
        ("[1]", "cannot be read"),
        ('{"denoiser": 1}', "cannot be read"),
        ("1" * 10_000, "cannot be read: it is not JSON"),
        ("x" * 300_000, "is larger than a file of settings can be"),
        ("\udc80", "cannot be read"),
    ],
)
def test_odd_json(tmp_path: Path, text: str, words: str) -> None:
    path = place(tmp_path, "widths", text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=words):
        load_config(path.parent)
    with pytest.raises(UserError, match="There is no file"):
        load_json(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "a: b: c", "- 1", "3", "? {a: 1}\n: 2", "a: 2026-11-21", "a: !!binary '#'", "\x00", ""]
)
def test_odd_yaml(tmp_path: Path, text: str) -> None:
    path = place(tmp_path, "settings", text.encode())
    with pytest.raises((UserError, OmegaConfBaseException)):
        open_settings(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """A file of a few kilobytes could fill the memory."""
    whole, path = io.BytesIO(), tmp_path / "a.pt"
    torch.save({"a": torch.zeros(1 << 20)}, whole)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    with pytest.raises(UserError, match="is refused: it is compressed"):
        load_tensors(path)


def test_an_older_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tensors({}, tmp_path / "a.pt")
    for version in ("2.9.1+cpu", "2.6.0", "1.13.1"):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(UserError, match=f"is not read with PyTorch {version.split('+')[0]}.*from version 2.10 on"):
            load_tensors(tmp_path / "a.pt")
    for version in ("2.10.0", "2.13.0+cu130", "3.0"):
        monkeypatch.setattr(torch, "__version__", version)
        assert load_tensors(tmp_path / "a.pt") == {}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([1, 2], "holds no agent"),
        ({}, "holds no agent"),
        ({1: torch.zeros(1)}, "holds no agent"),
        ({"denoiser.a": 1}, "denoiser.a is not a dense tensor"),
        ({"denoiser.a": torch.eye(2).to_sparse()}, "denoiser.a is not a dense tensor"),
        ({"denoiser.a": torch.zeros(1).expand(10**12)}, "denoiser.a is not a dense tensor"),
        ({"denoiser.a": torch.zeros(2, device="meta")}, "denoiser.a is not a dense tensor"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, stored: Any, words: str) -> None:
    torch.save(stored, tmp_path / "a.pt")
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "a.pt")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    """The folder of a run and its state, as if there were more to train."""
    settings = ["collection.train.num_steps_total=40", "training.num_final_epochs=0", "evaluation.untrained=false"]
    folder = train(tmp_path_factory.mktemp("stopped") / "run", *settings).folder
    state = load_tensors(folder.state)
    state["progress"]["is_finished"] = False
    return folder, state


def reopen(folder: RunFolder) -> None:
    definition, typed = read_settings(folder.load_config())
    Trainer(definition, typed, folder, Ranks(0, 1, CPU), {})


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a list": (lambda state: [state], "is not the state of a run: it has no progress"),
    "empty": (lambda state: {}, "is not the state of a run: it has no progress"),
    "no progress": (lambda state: state | {"progress": None}, "it has no progress"),
    "phase 99": (lambda state: state | {"progress": state["progress"] | {"phase": 99}}, "is in phase 99 of epoch"),
    "phase -1": (lambda state: state | {"progress": state["progress"] | {"phase": -1}}, "is in phase -1 of epoch"),
    "phase 1.5": (lambda state: state | {"progress": state["progress"] | {"phase": 1.5}}, "its phase is 1.5"),
    "epoch 0": (lambda state: state | {"progress": state["progress"] | {"epoch": 0}}, "its epoch is 0"),
    "unknown entry": (lambda state: state | {"progress": state["progress"] | {"x": 0}}, "does not fit the settings"),
    "no agent": (lambda state: {key: state[key] for key in state.keys() - {"agent"}}, "does not fit the settings"),
    "agent as a list": (lambda state: state | {"agent": [1]}, "does not fit the settings"),
    "components as a list": (lambda state: state | {"components": []}, "does not fit the settings"),
    "ranks as a number": (lambda state: state | {"ranks": 1}, "does not fit the settings"),
    "empty ranks": (lambda state: state | {"ranks": [{}]}, "does not fit the settings"),
    "no log": (lambda state: state | {"log_position": "here"}, "does not fit the settings"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_states_of_no_run(stopped: tuple[RunFolder, dict[str, Any]], name: str) -> None:
    (folder, state), (spoil, words) = stopped, STATES[name]
    torch.save(spoil(dict(state)), folder.state)
    with pytest.raises(UserError, match=words) as caught:
        reopen(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_resuming_from_a_list(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", compose())
    folder.state.parent.mkdir()
    torch.save([1], folder.state)
    with pytest.raises(UserError, match="is not the state of a run: it has no progress"):
        main.resume([str(folder.path)])


CHANNELS = 16_384
"""The most that the settings allow for one level."""


def test_networks_of_billions_are_refused_in_play(tmp_path: Path) -> None:
    network = {"img_channels": 3, "cond_channels": 16, "depths": [1, 1], "attn_depths": [0, 0]}
    inner_model = network | {"num_steps_conditioning": 1, "channels": [CHANNELS, CHANNELS]}
    widths = {
        "env_id": "BreakoutNoFrameskip-v4",
        "denoiser": {"sigma_data": 0.5, "sigma_offset_noise": 0.3, "inner_model": inner_model},
        "rew_end_model": network | {"lstm_dim": 16, "img_size": 16, "channels": [8, 8]},
        "actor_critic": {"lstm_dim": 16, "img_channels": 3, "img_size": 16, "channels": [8, 8], "down": [1, 1]},
    }
    folder = place(tmp_path, "widths", json.dumps(widths).encode()).parent
    weights = RunFolder(folder).agent_version(1)
    weights.parent.mkdir(parents=True)
    torch.save({"denoiser.inner_model.act_emb.0.weight": torch.zeros(4, 8)}, weights)
    source = load_source(folder, None, best=False)
    with pytest.raises(UserError, match=r"ask for networks of [\d,]{13,} parameters or more"):
        build_play_env(source, PlayConfig(), CPU)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (f"agent.denoiser.inner_model.channels=[{CHANNELS},{CHANNELS}]", r"networks of [\d,]{13,} parameters or more"),
        ("agent.denoiser.inner_model.channels=[10000000,10000000]", r"channels\[0\]=10000000 must be .* at most 16384"),
        ("agent.actor_critic.lstm_dim=10000000", "lstm_dim=10000000 must be at least 1 and at most 16384"),
        (f"agent.denoiser.inner_model.cond_channels={10**18}", f"cond_channels={10**18} must be .* at most 16384"),
    ],
)
def test_ten_million_channels_are_refused_in_training(tmp_path: Path, setting: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_trainer(tmp_path / "run", setting)


def test_measuring_networks_changes_no_random_number(tmp_path: Path) -> None:
    config = compose()
    definition, typed = read_settings(config)
    around = Surroundings(Spaces((3, 16, 16), Actions("numbered", 4)), Ranks(0, 1, CPU), torch.float32)
    before = torch.get_rng_state()
    check_size(definition, typed, around)
    assert torch.equal(torch.get_rng_state(), before)
