"""From the weights of a source to an agent that acts and imagines."""

from collections.abc import Callable
from pathlib import Path

import torch

from algorithms.base import Algorithm, Surroundings
from algorithms.size import check_size
from data import Actions, Batch, Dataset, Spaces, find_splits, with_stride
from envs import action_layout, frame_shape
from errors import UserError
from run.compiled import compile_networks
from run.device import cast_weights, set_backends
from run.ranks import Ranks
from trained.source import Source


def open_agent(
    source: Source,
    spaces: Spaces,
    device: torch.device,
    precision: torch.dtype,
    seed: int = 0,
    draw_starts: Callable[[int, int, bool], Batch] | None = None,
    compiles: bool | str = False,
) -> Algorithm:
    """The source's algorithm with its trained weights, for acting only.

    `draw_starts(count, length, with_full_frames)` returns the real steps that imagination starts from. Raises UserError
    for weights that do not fit the settings.
    """
    set_backends(device, precision)
    around = Surroundings(spaces, Ranks(0, 1, device), precision, seed, draw_starts=draw_starts)
    check_size(source.definition, source.config, around)
    algorithm = source.definition.make(source.config, around)
    agent = algorithm.agent.eval().to(device, memory_format=torch.channels_last)
    agent.take(source.weights, str(source.weights_path))
    for network in agent.networks_to_compile:
        cast_weights(network, precision)
    compile_networks(agent.networks_to_compile, compiles, device, is_first=True)
    return algorithm


def find_spaces(source: Source) -> Spaces:
    """The agent's frames and actions: their number is read from its weights, their kind from the game or the data.

    Runs that collect their own data have numbered actions. Their data is not read: it may be changing. Raises UserError
    if a static data set does not fit the agent.
    """
    count, env = source.definition.count_actions(source.weights), source.config.env.train
    frame, layout, static = frame_shape(env), action_layout(env), source.config.static_dataset
    actions = Actions("numbered" if layout is None else "multi-hot", count)
    if static.path is not None:
        found = list(filter(None, map(Dataset.open_if_any, sorted(source.datasets))))
        if found and layout is None:
            recorded = with_stride(found[0], static.stride).spaces.actions
            # Networks without actions ignore those of the data.
            actions = Actions(recorded.kind, count or recorded.size)
        for dataset in [each for each in found if each.directory in find_splits(Path(static.path))]:
            check_fits(with_stride(dataset, static.stride), Spaces(frame, actions), source)
    return Spaces(frame, actions)


def check_fits(dataset: Dataset, spaces: Spaces, source: Source) -> None:
    """Raise UserError unless the source's agent, of these frames and actions, can start from a data set."""
    frame, seen, wanted, folder = dataset.spaces.frame, dataset.spaces.actions, spaces.actions, source.folder
    if frame != spaces.frame:
        raise UserError(f"The frames in {dataset.directory} are {frame}, but those of {folder} are {spaces.frame}.")
    fits = seen.size <= wanted.size if seen.kind == "numbered" else seen.size == wanted.size
    uses_actions = source.definition.count_actions(source.weights) > 0
    if uses_actions and not (seen.kind == wanted.kind and fits):
        known, ours = f"{seen.size} {seen.kind}", f"{wanted.size} {wanted.kind}"
        raise UserError(f"The actions in {dataset.directory} ({known}) are not those of {folder} ({ours}).")
