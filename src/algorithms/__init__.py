"""Learning algorithms, one package each. Every package describes its algorithm in a `DEFINITION`.

A folder of packages is a family of algorithms that share code.
"""

import importlib
import pkgutil
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from algorithms.base import Definition
from algorithms.config import TrainerConfig
from errors import UserError, near_matches
from run.config import build
from run.trust import check_trust

DEFAULT = "diamond"
"""The algorithm of a run whose settings name none: such runs were made when there was only one."""


def read_settings(config: DictConfig, trusts: bool = True) -> tuple[Definition, TrainerConfig]:
    """The algorithm that a run's settings name, and the settings as dataclasses; raises UserError for wrong ones.

    Without `trusts`, an algorithm is refused whose module is not part of this project.
    """
    name = OmegaConf.select(config, "algorithm.name", default=DEFAULT)
    if not trusts:
        check_trust("The algorithm", name)
    definition = find_definition(name)
    return definition, build(definition.config, OmegaConf.merge({"algorithm": {"name": name}}, config))


def packages() -> dict[str, str]:
    """The modules of all algorithms in this folder, by name. Nothing is imported."""
    found = {}
    for name in _folders(Path(__path__[0])):
        members = _folders(Path(__path__[0], name))
        found |= {member: f"{__name__}.{name}.{member}" for member in members} or {name: f"{__name__}.{name}"}
    return found


def find_definition(name: str) -> Definition:
    """Look up an algorithm by name: a package in this folder or a family, or `module:NAME` anywhere on Python's path.

    The second form imports the module, which runs its code. Raises UserError if there is no such algorithm.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        known = packages()
        if name not in known:
            hint = near_matches(name, known)
            raise UserError(f"algorithm.name={name} is unknown: there is {', '.join(known)}, or module:NAME.{hint}")
        module, attribute = known[name], "DEFINITION"
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise UserError(f"algorithm.name={name} cannot be imported: {error}.") from None
    if not isinstance(found, Definition):
        raise UserError(f"algorithm.name={name} is not an algorithm: {module} has no Definition named {attribute}.")
    return found


def _folders(path: Path) -> list[str]:
    """The names of the packages in a folder."""
    return [each.name for each in pkgutil.iter_modules([str(path)]) if each.ispkg]
