"""Published weights from the Hugging Face Hub, as something to play."""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from omegaconf import DictConfig, OmegaConf

from agent import SAFETENSORS
from envs import AtariConfig, EnvConfig
from envs.recorded import load_recorded_game
from errors import UserError, near_matches
from run.folder import PROJECT
from run.settings import load_yaml
from trained.source import Source, complete, load_config, make_source, override

REPOSITORY = "eloialonso/diamond"
GAMES = [
    *("Alien", "Amidar", "Assault", "Asterix", "BankHeist", "BattleZone", "Boxing", "Breakout", "ChopperCommand"),
    *("CrazyClimber", "DemonAttack", "Freeway", "Frostbite", "Gopher", "Hero", "Jamesbond", "Kangaroo", "Krull"),
    *("KungFuMaster", "MsPacman", "Pong", "PrivateEye", "Qbert", "RoadRunner", "Seaquest", "UpNDown"),
]
"""The 26 games of Atari 100k."""
CSGO = "csgo"
PRETRAINED = (*GAMES, CSGO)


def load_pretrained(
    game: str,
    local_copy: Path | None,
    outputs: Path,
    overrides: Sequence[str] = (),
    repository: str = REPOSITORY,
) -> Source:
    """Download (or find in the cache, or in a local copy of the repository) the weights of a game.

    Starts and recordings go to `outputs/pretrained/<Game>`. `overrides` change the settings of imagination. Raises
    UserError when neither the network nor the cache has the files.
    """
    if game == CSGO:
        return _load_csgo(local_copy, outputs, overrides, repository)
    fetch = _from_local_copy(local_copy) if local_copy is not None else partial(_from_hub, repository)
    weights = fetch(f"atari_100k/models/{game}.pt")
    agent, env = [fetch(f"atari_100k/config/{name}") for name in ("agent/default.yaml", "env/atari.yaml")]
    config = override(complete(_compose(agent, env, game)), overrides)
    return make_source(pretrained_folder(outputs, game), weights, config)


def _load_csgo(local_copy: Path | None, outputs: Path, overrides: Sequence[str], repository: str) -> Source:
    """The two-stage world of CS:GO and its spawn places; what its actions mean is in config/env/csgo.yaml."""
    find = partial(_from_hub, repository) if local_copy is None else _from_local_copy(local_copy)
    weights, agent = find("csgo/model/csgo.pt"), find("csgo/config/agent/csgo.yaml")
    settings = OmegaConf.create({"agent": load_yaml(agent), "env": load_yaml(PROJECT / "config" / "env" / "csgo.yaml")})
    chosen = overrides if _names_sampler(overrides) else ["world_model_env=fast", *overrides]
    source = make_source(pretrained_folder(outputs, CSGO), weights, override(complete(settings), chosen))
    root = _snapshot(repository, f"{CSGO}/spawn") if local_copy is None else local_copy
    return replace(source, spawn=root / CSGO / "spawn")


def _names_sampler(overrides: Sequence[str]) -> bool:
    return any(word.startswith("world_model_env=") for word in overrides)


def pretrained_env(game: str) -> EnvConfig:
    return load_recorded_game(CSGO) if game == CSGO else AtariConfig(f"{game}NoFrameskip-v4")


def pretrained_folder(outputs: Path, game: str) -> Path:
    return outputs / "pretrained" / game


def find_game(word: str) -> str:
    """A game by its name, in any case, with or without `NoFrameskip-v4`, or by its number in the menu."""
    word = word.strip().removesuffix("NoFrameskip-v4")
    for number, game in enumerate(PRETRAINED, start=1):
        if word.lower() in (game.lower(), str(number)):
            return game
    raise UserError(
        f"There are no published weights of {word or 'a game without a name'}: the games are 1 to {len(PRETRAINED)}, "
        f"{', '.join(PRETRAINED)}.{near_matches(word, list(PRETRAINED))}"
    )


def ask_for_game() -> str:
    """Show the numbered menu and read a number or a name."""
    width, rows = max(map(len, PRETRAINED)) + 6, -(-len(PRETRAINED) // 3)
    for row in range(rows):
        cells = [f"{number + 1:3d} {PRETRAINED[number]}" for number in range(row, len(PRETRAINED), rows)]
        print("".join(cell.ljust(width) for cell in cells).rstrip())
    try:
        return find_game(input("Game (number or name): "))
    except EOFError:
        raise UserError("No game was chosen: name one, as in --pretrained Breakout.") from None


def _compose(agent: Path, env: Path, game: str) -> DictConfig:
    """The two files under the names by which they refer to each other. Reading them runs nothing."""
    config = OmegaConf.create({"agent": load_yaml(agent), "env": load_yaml(env)})
    config.env.train.id = f"{game}NoFrameskip-v4"
    return config


def find_shared(repository: str | None, local_copy: Path | None) -> Path | None:
    """The folder of a run that `scripts/share.py` shared: a local copy, or a repository of the Hub.

    None for the layout of the published weights, in which a game is chosen.
    """
    folder = local_copy
    if folder is None and repository is not None:
        folder = _snapshot(repository, None)
    return folder if folder is not None and (folder / "config" / "trainer.yaml").is_file() else None


def load_shared(folder: Path, outputs: Path, name: str, overrides: Sequence[str] = (), trusts: bool = False) -> Source:
    """What `scripts/share.py` shared. Starts and recordings go to `outputs/pretrained/<name>`.

    Raises UserError if the folder holds no weights.
    """
    found = sorted(folder.glob("**/models/*.safetensors")) or sorted(folder.glob("**/models/*.pt"))
    if not found:
        raise UserError(f"{folder} holds no weights: a folder models/ with a .safetensors or .pt file is missing.")
    config = override(load_config(folder), overrides)
    return make_source(pretrained_folder(outputs, name), found[0], config, trusts)


def _from_hub(repository: str, name: str) -> Path:
    return Path(_fetch(repository, name, partial(hf_hub_download, repository, name)))


def _snapshot(repository: str, name: str | None) -> Path:
    """A copy of the repository, or of one of its folders."""
    patterns = None if name is None else f"{name}/*"
    return Path(_fetch(repository, name or "a copy", partial(snapshot_download, repository, allow_patterns=patterns)))


def _fetch(repository: str, name: str, download: Callable[..., str]) -> str:
    reason = None if constants.HF_HUB_OFFLINE else why_unreachable(constants.ENDPOINT)
    if reason is None:
        try:
            return download()
        except (RemoteEntryNotFoundError, RepositoryNotFoundError):
            raise UserError(f"{repository} on the Hugging Face Hub has no file {name}, or is not public.") from None
        # Proxies, servers and networks fail in more ways than the client has errors for.
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    try:
        return download(local_files_only=True)
    except LocalEntryNotFoundError:
        raise UserError(
            f"{name} of {repository} is not in the cache, and the Hugging Face Hub cannot be reached ({reason}). "
            "Connect to the network once; after that it is found in the cache."
        ) from None
    except HFValidationError as error:
        raise UserError(f"--repo {repository} is not a name on the Hub, such as user/model: {error}") from None


def why_unreachable(url: str, seconds: float = 2.0) -> str | None:
    """Why no connection to a server can be made within so many seconds; None if one can, or a proxy makes it.

    The Hub's client would try again and again, for half a minute.
    """
    if getproxies():
        return None
    parts, found = urlsplit(url), ["no answer within two seconds"]

    def connect() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), seconds).close()
            found.clear()
        except OSError as error:
            found[0] = error.strerror or str(error)

    # Looking up a name can take longer than a connection, and knows no limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _from_local_copy(folder: Path) -> Callable[[str], Path]:
    def find(name: str) -> Path:
        safe = (folder / name).with_suffix(SAFETENSORS)
        if name.endswith(".pt") and safe.is_file():
            return safe
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no copy of {REPOSITORY}: it has no {name}.")
        return folder / name

    return find
