"""Names in settings that import a module, which runs its code."""

from importlib.machinery import PathFinder
from pathlib import Path

from errors import UserError

SRC = Path(__file__).resolve().parents[1]


def check_trust(setting: str, name: str) -> None:
    """Raise UserError if a name is of the form `module:NAME`, and the module is not part of this project.

    Nothing is imported.
    """
    module, colon, _ = str(name).partition(":")
    if colon and not _is_own(module):
        raise UserError(
            f"{setting} {name} in the run folder would import the module {module}, which runs its code: add --trust if "
            "you trust it."
        )


def _is_own(module: str) -> bool:
    found = PathFinder.find_spec(module.partition(".")[0], [str(SRC)])
    return found is not None and found.origin is not None
