"""Reading of settings: YAML files, and words of a command line. Neither can run code, or ask for endless memory."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from errors import UserError, one_line
from files import load_text
from ranges import in_yaml

LARGEST_SETTINGS = 10_000
"""The largest number of values in a file of settings."""
DEEPEST_SETTINGS, MOST_COPIES = 100, 1000


def load_yaml(path: Path) -> DictConfig:
    """Read a YAML file of settings; raises UserError if it is not one."""
    text = load_text(path)
    try:
        if _expanded_size(text) > LARGEST_SETTINGS:
            raise ValueError(f"its aliases stand for more than {LARGEST_SETTINGS} values")
        config = OmegaConf.load(io.StringIO(text))
        _check_references(config)
    # OmegaConf and the parser fail in many ways on what is not a file of settings.
    except Exception as error:
        raise UserError(f"{path} is not a file of settings: {one_line(error)}.") from None
    if not isinstance(config, DictConfig):
        raise UserError(f"{path} is not a file of settings: it holds no mapping of names to values.")
    return config


def _expanded_size(text: str) -> int:
    """The number of values in a YAML text after each alias is replaced by what it stands for.

    A few lines of aliases of aliases can stand for billions of values.
    """
    sizes: dict[str, int] = {}
    parents: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            if len(parents) == DEEPEST_SETTINGS:
                raise ValueError(f"it is nested more than {DEEPEST_SETTINGS} deep")
            parents.append((event.anchor, size))
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            (anchor, before), own = parents.pop(), size
            sizes[anchor], size = own, before + own
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor], size = 1, size + 1
        elif isinstance(event, yaml.AliasEvent):
            # An alias inside what it stands for has no end.
            size += sizes.get(event.anchor, LARGEST_SETTINGS + 1)
    return size


def _check_references(config: Any) -> None:
    """Raise ValueError if references `${name}` stand for too many values; like aliases, they multiply each other."""
    texts, nodes, count = _texts(OmegaConf.to_container(config, resolve=False)), [config], 0
    if math.prod(max(1, text.count("${")) for text in texts) > MOST_COPIES:
        raise ValueError(f"its references could repeat a text more than {MOST_COPIES} times")
    while nodes:
        node = nodes.pop()
        for key in node.keys() if isinstance(node, DictConfig) else range(len(node)):
            count += 1
            # A reference to something that is missing matters only to those who read it.
            with contextlib.suppress(OmegaConfBaseException):
                if OmegaConf.is_config(value := node[key]):
                    nodes.append(value)
        if count > LARGEST_SETTINGS:
            raise ValueError(f"its references stand for more than {LARGEST_SETTINGS} values")


def _texts(value: Any) -> Iterator[str]:
    """All texts inside dictionaries and lists."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def read_overrides(words: Sequence[str]) -> DictConfig:
    """Settings from words `NAME=VALUE`; raises UserError for a word that is not written so."""
    overrides = OmegaConf.create()
    for word in words:
        try:
            overrides = OmegaConf.merge(overrides, OmegaConf.from_dotlist([word]))
        # As in `load_yaml`.
        except Exception as error:
            raise UserError(f"{in_yaml(word)} is not NAME=VALUE in YAML: {one_line(error)}.") from None
    return overrides
