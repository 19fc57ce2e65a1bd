"""Several players take their turns: those in the same imagined world as one batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from algorithms.base import JoinableWorld
from game.inputs import Turn
from game.mind import think
from game.play_env import PlayEnv
from game.random_numbers import drawing_for
from game.view import Playable, View

Result = View | BaseException


def take_turns(turns: Sequence[tuple[Playable, Turn]]) -> list[Result]:
    """Obey the commands, then tick; what each player sees afterwards, or the error of its turn."""
    results: list[Result | None] = [None] * len(turns)
    steps: list[tuple[int, PlayEnv, Tensor]] = []
    for index, (playable, turn) in enumerate(turns):
        try:
            for command in turn.commands:
                playable.obey(command)
            if not isinstance(playable, PlayEnv) or not isinstance(playable.world.env, JoinableWorld):
                playable.tick(list(turn.held), turn.motion)
            elif (acts := playable.begin_tick(list(turn.held), turn.motion)) is not None:
                steps.append((index, playable, acts))
        # The other players go on, and whoever waits for this one handles its error.
        except BaseException as error:
            results[index] = error
    while steps:
        world = steps[0][1].world.env
        joined = [step for step in steps if world.can_join(step[1].world.env)]
        steps = [step for step in steps if step not in joined]
        try:
            _step_together([player for _, player, _ in joined], [acts for _, _, acts in joined])
        except BaseException as error:
            results = [
                error if place in [index for index, _, _ in joined] else each for place, each in enumerate(results)
            ]
    for index, (playable, turn) in enumerate(turns):
        if results[index] is None:
            try:
                results[index] = replace(playable.view(), sequence=turn.sequence, held=_in_words(turn))
            except BaseException as error:
                results[index] = error
    return results


@torch.no_grad()
def _step_together(players: Sequence[PlayEnv], acts: Sequence[Tensor]) -> None:
    """One step of players in worlds of the same networks, each with its own state and random numbers."""
    worlds = [player.world.env for player in players]
    for player in players:
        player.prepare_step()
    with drawing_for([player.random for player in players]), players[0].networks():
        answers = worlds[0].step_joined(worlds, torch.cat(list(acts)))
    thinking = []
    for player, answer, act in zip(players, answers, acts, strict=True):
        if player.finish_step(answer, act):
            thinking.append(player)
    if thinking:
        obs = torch.cat([player.now.obs for player in thinking])
        with drawing_for([player.random for player in thinking]):
            thoughts = think([player.mind for player in thinking], obs)
        for player, thought in zip(thinking, thoughts, strict=True):
            player.take_thought(thought)


def _in_words(turn: Turn) -> tuple[str, ...]:
    """Every held key and click, and the motion."""
    motion = (f"{turn.motion[0]:+g},{turn.motion[1]:+g}",) if any(turn.motion) else ()
    return (*turn.held, *motion)
