"""Simulated robots: what has to be installed for them, and the environments that are made by name.

MuJoCo, Gymnasium-Robotics and Minari are optional: `requirements-robotics.txt` lists them.
"""

import contextlib
import importlib.metadata
import io
import os
from collections.abc import Iterator
from typing import Any

import gymnasium
from packaging.version import Version

from errors import UserError, near_matches, one_line

FIRST_TOO_NEW = Version("3.12")
"""From this version of MuJoCo on, Gymnasium-Robotics 1.4.2 cannot read joints."""
INSTALL = "pip install -r requirements-robotics.txt"
ROOMS = ("gymnasium", "gymnasium_robotics")
"""Packages whose environments are made for other people's recordings."""


def import_robotics() -> None:
    """Import MuJoCo and Gymnasium-Robotics, which registers its environments.

    Raises UserError if one of them is not installed, if MuJoCo is too new, or if it finds no OpenGL library.
    """
    try:
        version = importlib.metadata.version("mujoco")
        if Version(version) >= FIRST_TOO_NEW:
            raise UserError(
                f"MuJoCo {version} is too new for Gymnasium-Robotics: versions before {FIRST_TOO_NEW} work. {INSTALL}"
            )
        # Mesa would draw with all cores in every process.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        # The import prints news.
        with opengl_needed(), contextlib.redirect_stderr(io.StringIO()):
            # Gymnasium-Robotics would hide that MuJoCo is missing.
            import mujoco  # noqa: F401, I001
            import gymnasium_robotics
    except (ModuleNotFoundError, importlib.metadata.PackageNotFoundError) as error:
        raise UserError(f"Simulated robots need MuJoCo and Gymnasium-Robotics ({error}): {INSTALL}") from None
    # Its warnings are for authors of environments.
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    gymnasium.register_envs(gymnasium_robotics)


@contextlib.contextmanager
def opengl_needed() -> Iterator[None]:
    """Turn whatever goes wrong when MuJoCo loads OpenGL or draws its first picture into UserError."""
    try:
        yield
    except (UserError, ModuleNotFoundError, MemoryError):
        raise
    # Each library of OpenGL fails in its own ways.
    except Exception as error:
        chosen = os.environ.get("MUJOCO_GL")
        seen = "MUJOCO_GL is not set" if chosen is None else f"MUJOCO_GL={chosen}"
        raise UserError(
            f"MuJoCo cannot draw: {seen}, and there is no OpenGL ({one_line(error)}). Without a display, set "
            "MUJOCO_GL=osmesa (Debian: apt install libosmesa6) or MUJOCO_GL=egl (libegl1 and libgl1)."
        ) from None


def make_robot(env_id: str, options: dict[str, Any], max_episode_steps: int | None = None) -> gymnasium.Env:
    """Make an environment of Gymnasium or Gymnasium-Robotics that draws pictures, from a name found in a file.

    Only the name and plain arguments count: an entry point in a file could run any code. Raises UserError for the
    environments of other packages, and for arguments that do not fit.
    """
    import_robotics()
    spec = gymnasium.registry.get(env_id)
    if spec is None or str(spec.entry_point).partition(".")[0] not in ROOMS:
        known = [name for name, each in gymnasium.registry.items() if str(each.entry_point).partition(".")[0] in ROOMS]
        raise UserError(
            f"The environment {env_id} cannot be recovered: only those of {' and '.join(ROOMS)} are made for "
            f"recordings.{near_matches(env_id, known)}"
        )
    try:
        return gymnasium.make(
            env_id, max_episode_steps, disable_env_checker=True, **{**options, "render_mode": "rgb_array"}
        )
    except ModuleNotFoundError as error:
        raise UserError(f"The environment {env_id} cannot be recovered: {error}. Is its package installed?") from None
    except (gymnasium.error.Error, TypeError, ValueError, KeyError, OSError) as error:
        raise UserError(f"The environment {env_id} cannot be recovered: {one_line(error)}") from None
