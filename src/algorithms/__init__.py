"""Learning algorithms, one package each. Every package describes its algorithm in a `DEFINITION`."""

import importlib
import pkgutil

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


def find_definition(name: str) -> Definition:
    """Look up an algorithm by name: a package in this folder, or `module:NAME` anywhere on Python's path.

    The second form imports the module, which runs its code. Raises UserError if there is no such algorithm.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        known = [each.name for each in pkgutil.iter_modules(__path__) if each.ispkg]
        if name not in known:
            hint = near_matches(name, known)
            raise UserError(f"algorithm.name={name} is unknown: there is {', '.join(known)}, or module:NAME.{hint}")
        module, attribute = f"{__name__}.{name}", "DEFINITION"
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise UserError(f"algorithm.name={name} cannot be imported: {error}.") from None
    if not isinstance(found, Definition):
        raise UserError(f"algorithm.name={name} is not an algorithm: {module} has no Definition named {attribute}.")
    return found
