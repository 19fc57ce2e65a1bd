"""Environments whose making imports a module that is not part of the project."""

from envs.config import EnvConfig, GymConfig
from run.trust import check_trust


def check_env(config: EnvConfig, trusts: bool) -> None:
    """Raise UserError if making an environment would import a module that is not trusted."""
    if isinstance(config, GymConfig) and not trusts:
        check_trust("The environment id", config.id)
