"""From YAML to dataclasses, without letting the YAML run anything."""

import ast
import operator
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

import yaml
from omegaconf import DictConfig, OmegaConf

from errors import UserError

Config = TypeVar("Config")


def register_resolvers() -> None:
    """Make `${eval:'1 + 2'}` available in YAML: arithmetic on numbers, and `float("inf")`, nothing else."""
    OmegaConf.register_new_resolver("eval", evaluate_arithmetic, replace=True)


def load_yaml(path: Path) -> DictConfig:
    """Read a file of settings; raises UserError when it is none."""
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a file of settings: {one_line(error)}.") from None
    if not isinstance(config, DictConfig):
        raise UserError(f"{path} is not a file of settings: it holds no names.")
    return config


def build(config: DictConfig, targets: Mapping[str, type], **extra: Any) -> Any:
    """Make the dataclass that `_target_` names, and those inside it.

    Only names in `targets` resolve. Raises UserError for others, and for entries that a dataclass does not have.
    """
    content = OmegaConf.to_container(config, resolve=True)
    return _build({**content, **extra}, targets)


def build_as(kind: type[Config], config: DictConfig, **extra: Any) -> Config:
    """Make the given dataclass from a node without `_target_`; `extra` replaces entries."""
    content = OmegaConf.to_container(config, resolve=True)
    return _construct(kind, {**content, **extra})


def _build(value: Any, targets: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return [_build(item, targets) for item in value]
    if not isinstance(value, dict):
        return value
    entries = {name: _build(item, targets) for name, item in value.items() if name != "_target_"}
    if "_target_" not in value:
        return entries
    name = value["_target_"]
    if name not in targets:
        raise UserError(f"_target_: {name} is not allowed in a configuration. Known: {', '.join(sorted(targets))}.")
    return _construct(targets[name], entries)


def _construct(kind: type[Config], entries: dict[str, Any]) -> Config:
    entries = {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}
    try:
        made = kind(**entries)
    except TypeError as error:
        reason = str(error).split("__init__() ")[-1]
        raise UserError(f"The configuration of {kind.__name__} does not fit: {reason}.") from None
    for field in fields(kind):
        if not _fits(entries.get(field.name, field.default), field.type):
            wanted = getattr(field.type, "__name__", str(field.type))
            seen = f"{field.name}={entries[field.name]!r}"
            raise UserError(f"The configuration of {kind.__name__} does not fit: {seen} should be of type {wanted}.")
    return made


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is of an annotated type: a class, a container of anything, or a union of them."""
    if value is MISSING:
        return True
    options = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    kinds = tuple(get_origin(option) or option for option in options)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def evaluate_arithmetic(expression: str) -> int | float:
    """The value of an arithmetic expression of numbers; raises UserError for anything else."""
    try:
        return _evaluate(ast.parse(str(expression), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise UserError(
            f"The configuration holds ${{eval:{expression}}}: only arithmetic on numbers is allowed."
        ) from None


def _evaluate(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left), _evaluate(right))
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as word)], keywords=[]):
            return float(word)
    raise ValueError


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
