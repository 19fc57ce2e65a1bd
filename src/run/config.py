"""Conversion of YAML to dataclasses. A YAML file cannot run code."""

import ast
import functools
import operator
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from errors import UserError, near_matches, one_line
from ranges import BadSetting, in_yaml

Config = TypeVar("Config")


def register_resolvers() -> None:
    """Register `${eval:'1 + 2'}` for YAML: arithmetic on numbers, and `float("inf")`, nothing else."""
    OmegaConf.register_new_resolver("eval", evaluate_arithmetic, replace=True)


def require_sections(config: DictConfig, *names: str) -> None:
    """Raise UserError unless these entries hold settings of their own."""
    for name in names:
        if not isinstance(config.get(name), DictConfig):
            raise UserError(f"{name}={in_yaml(config.get(name))} is not a section of settings: leave it as it is.")


def build(kind: type[Config], node: Any, where: str = "") -> Config:
    """Make a dataclass, with nested dataclasses, from a YAML node whose entries are named as its fields.

    `_target_` chooses among the dataclasses that the field's type allows, by their public names; no other names are
    looked up. Without it, the first one is made. `where` is the name of the node. Raises UserError, with the name of
    the setting, if a setting is unknown, missing, of the wrong type, or outside of the limits that its field declares
    (see `ranges`).
    """
    try:
        content = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except InterpolationResolutionError as error:
        reason = error.__cause__ if isinstance(error.__cause__, UserError) else error
        raise UserError(f"{_as_written(node, error.full_key)} cannot be computed: {one_line(reason)}") from None
    return _build(kind, content, where)


def _as_written(node: DictConfig, name: str) -> str:
    """A setting and the expression that it is computed from."""
    value: Any = OmegaConf.to_container(node)
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return name if value is None else f"{name}={value}"


def _build(wanted: Any, value: Any, where: str) -> Any:
    """Make a value of an annotated type: a dataclass, a plain class, a container of these, or a union."""
    options = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
    kinds = [get_args(option)[0] if get_origin(option) is Annotated else option for option in options]
    if value == "???":
        raise UserError(f"{where} is missing: set {where}=….")
    if value is None and NoneType in kinds:
        return None
    if isinstance(value, dict):
        if sections := [kind for kind in kinds if is_dataclass(kind)]:
            return _construct(_choose(sections, value, where), value, where)
        if dict in (get_origin(kind) or kind for kind in kinds):
            return value
    for option, kind in zip(options, kinds, strict=True):
        if isinstance(value, list) and get_origin(kind) is tuple:
            of = get_args(kind)[0]
            entries = tuple(_build(of, item, f"{where}[{place}]") for place, item in enumerate(value))
            return _within(option, entries, where)
        if _fits(value, kind):
            return _within(option, value, where)
    raise UserError(f"{where}={in_yaml(value)} should be of type {' or '.join(map(_type_name, kinds))}.")


def _within(option: Any, value: Any, where: str) -> Any:
    """The value, if it is within the limits of its annotated type."""
    for limit in get_args(option)[1:] if get_origin(option) is Annotated else ():
        if not limit.accepts(value):
            raise UserError(f"{where}={in_yaml(value)} {limit}.")
    return value


def _choose(kinds: list[type], value: dict[str, Any], where: str) -> type:
    """The dataclass named by `_target_`, among those that the field's type allows; without it, the first one."""
    target = value.get("_target_")
    if target is None:
        return kinds[0]
    for kind in kinds:
        package, _, name = str(target).rpartition(".")
        if name == kind.__name__ and (kind.__module__ + ".").startswith(package + "."):
            return kind
    known = ", ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
    raise UserError(f"{where}._target_: {target} is not allowed in a configuration. Known here: {known}.")


def _construct(kind: type[Config], value: dict[str, Any], where: str) -> Config:
    types, prefix = _types_of(kind), f"{where}." if where else ""
    entries = {name: entry for name, entry in value.items() if name != "_target_"}
    for name in entries.keys() - types.keys():
        raise UserError(f"{prefix}{name} is unknown.{near_matches(name, types)}")
    for field in fields(kind):
        if field.name not in entries and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{prefix}{field.name} is missing: {kind.__name__} needs it.")
    made = {name: _build(types[name], entry, prefix + name) for name, entry in entries.items()}
    try:
        return kind(**made)
    except BadSetting as error:
        raise UserError(f"{prefix}{error}") from None


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, with their limits."""
    return get_type_hints(kind, include_extras=True)


def _type_name(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return f"list of {_type_name(get_args(kind)[0])}"
    return str(kind) if get_origin(kind) is not None else getattr(kind, "__name__", str(kind))


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(kind, type) and (isinstance(value, kind) or (kind is float and isinstance(value, int)))


def evaluate_arithmetic(expression: str) -> int | float:
    """Evaluate an arithmetic expression of numbers; raises UserError for anything else."""
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
