"""The command line of evaluation."""

import argparse
from pathlib import Path

from evaluation import world_command
from run.arguments import OneLineParser, positive, whole

OVERRIDE = "world_model_env"
FOR_AGENTS = ("episodes", "env", "policy", "num_envs", "no_random", "record", "render")
FOR_WORLDS = ("horizon", "segments", "samples", "data", "save_rollouts")
"""Options that are used without --world, or with it."""


def read_arguments() -> argparse.Namespace:
    words = "How well agents play the real game, or, with --world, how well worlds imagine it."
    parser = OneLineParser(prog="src/evaluate.py", description=words)
    what = parser.add_argument_group("what to evaluate")
    what.add_argument(
        "runs", nargs="*", metavar="RUN_DIR", help="run folders (the newest in outputs/); world_model_env=NAME"
    )
    version = what.add_mutually_exclusive_group()
    version.add_argument("--epoch", type=whole, metavar="N", help="weights of that epoch instead of the newest kept")
    version.add_argument(
        "--best", action="store_true", help="weights of the best test return, or of the least test loss"
    )
    version.add_argument("--every", type=positive, metavar="K", help="all kept weights of epochs divisible by K")
    what.add_argument(
        "--pretrained", action="append", default=[], metavar="GAME", help="published weights; can be repeated"
    )
    what.add_argument("--local-dir", type=Path, metavar="DIR", help="local copy of the published repository")
    what.add_argument(
        "--trust", action="store_true", help="import the modules that the runs' settings name, which runs their code"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--seed", type=whole, default=0, metavar="S", help="of games, actions and imagination (0)")
    how.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (auto)")
    how.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the networks (auto)")
    agents = parser.add_argument_group("agents")
    agents.add_argument("--episodes", type=positive, default=100, metavar="N", help="for each agent (100)")
    agents.add_argument("--env", choices=("test", "train"), default="test", help="the run's environment (test)")
    agents.add_argument(
        "--policy", choices=("sample", "greedy"), default="sample", help="draw actions, or take the most likely"
    )
    agents.add_argument("--num-envs", type=positive, default=8, metavar="N", help="games played at once (8)")
    agents.add_argument("--no-random", action="store_true", help="leave out the random policy")
    agents.add_argument("--record", type=Path, metavar="DIR", help="write a film of every episode")
    agents.add_argument("--render", action="store_true", help="show the episodes in a window")
    worlds = parser.add_argument_group("worlds")
    worlds.add_argument("--world", action="store_true", help="measure the imagined world instead")
    world_command.add_arguments(parser)
    arguments = parser.parse_intermixed_args()
    arguments.overrides = [word for word in arguments.runs if word.startswith(OVERRIDE) and "=" in word]
    arguments.runs = [Path(word) for word in arguments.runs if word not in arguments.overrides]
    if (conflict := find_conflict(arguments, parser)) is not None:
        parser.error(conflict)
    return arguments


def find_conflict(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> str | None:
    """What is wrong, if some of the options exclude each other, or are not used."""
    not_used = FOR_AGENTS if arguments.world else FOR_WORLDS
    given = [name for name in not_used if getattr(arguments, name) != parser.get_default(name)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        return f"--world plays no episodes: leave out {option}" if arguments.world else f"{option} needs --world"
    names_epoch = arguments.best or arguments.epoch is not None or arguments.every is not None
    conflicts = {
        "--pretrained has no epochs: leave out --epoch, --best and --every": bool(arguments.pretrained) and names_epoch,
        "--local-dir needs --pretrained": arguments.local_dir is not None and not arguments.pretrained,
        "--num-envs is at most 256": arguments.num_envs > 256,
        "settings of imagination (world_model_env) need --world": bool(arguments.overrides) and not arguments.world,
    }
    return next((words for words, holds in conflicts.items() if holds), None)
