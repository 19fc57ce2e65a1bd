"""The table of returns: one row for each agent, for runs that differ in the seed only, and for the random policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.published import Scores, human_normalised
from evaluation.runs import Group, Identity, group_runs
from evaluation.statistics import mean_interval, probability_of_improvement
from evaluation.table import Row
from rl.results import Results


@dataclass(frozen=True)
class Evaluated:
    """An agent and the episodes that it played. Its weights are of an `epoch`; messages call them `version`."""

    run: Identity
    version: str
    epoch: int | None
    results: Results


def returns_table(
    agents: Sequence[Evaluated], random: Mapping[str, Results], published: Scores, by_epoch: bool = False
) -> list[Row]:
    """Rows for each agent, then for each group of runs that differ in the seed only, then for the random policy.

    `random`: the random policy's episodes in each game. With `by_epoch`, only weights of the same epoch are put
    together. `P(> first)` compares an episode of the row with one of the first agent of the game, or, in rows of
    groups, of the first group.
    """
    groups, rows = _groups(agents, by_epoch), []
    labels = {place: group.label for group in groups for place in group.members}
    for game in dict.fromkeys(agent.run.game for agent in agents):
        own = [place for place, agent in enumerate(agents) if agent.run.game == game]
        first, chance = agents[own[0]].results, random.get(game)
        for place in own:
            agent, over = agents[place], None if place == own[0] else first
            names = (labels[place], str(agent.run.path), agent.run.seed, agent.version)
            rows.append(_row(game, names, agent.results, agent.results.returns, over, chance, published))
        of_game = [group for group in groups if group.game == game]
        if any(len(group.members) > 1 for group in of_game):
            rows += _group_rows(game, of_game, agents, by_epoch, chance, published)
        if chance is not None:
            names = ("random", None, None, None)
            rows.append(_row(game, names, chance, chance.returns, first, None, published))
    return rows


def join(parts: Sequence[Results]) -> Results:
    """All episodes of several results."""
    returns = tuple(value for part in parts for value in part.returns)
    return Results(returns, tuple(value for part in parts for value in part.lengths))


def _groups(agents: Sequence[Evaluated], by_epoch: bool) -> list[Group]:
    if not by_epoch:
        return group_runs([agent.run for agent in agents])
    groups = []
    for epoch in sorted({agent.epoch for agent in agents}, key=lambda epoch: -1 if epoch is None else epoch):
        places = [place for place, agent in enumerate(agents) if agent.epoch == epoch]
        found = group_runs([agents[place].run for place in places])
        groups += [Group(each.game, each.label, tuple(places[member] for member in each.members)) for each in found]
    return groups


def _group_rows(
    game: str,
    groups: Sequence[Group],
    agents: Sequence[Evaluated],
    by_epoch: bool,
    random: Results | None,
    published: Scores,
) -> list[Row]:
    """One row for each group. A run counts once, with its mean return."""
    rows, first = [], None
    for group in groups:
        runs = [agents[place] for place in group.members]
        results = join([run.results for run in runs])
        epoch = f"epoch {runs[0].epoch}" if by_epoch else None
        names = (group.label, f"all {len(runs)}", ", ".join(str(run.run.seed) for run in runs), epoch)
        means = [run.results.mean_return for run in runs]
        rows.append(_row(game, names, results, means, first, random, published))
        first = first or results
    return rows


def _row(
    game: str,
    names: tuple[str, str | None, str | int | None, str | None],
    results: Results,
    values: Sequence[float],
    first: Results | None,
    random: Results | None,
    published: Scores,
) -> Row:
    """One row. `names` are agent, run, seed and weights. Mean, deviation (of the population) and limits are computed
    from `values`."""
    sample = np.array(values)
    return {
        "game": game,
        **dict(zip(("agent", "run", "seed", "weights"), names, strict=True)),
        "episodes": len(results.returns),
        "mean": float(sample.mean()),
        "std": float(sample.std()),
        "median": float(np.median(sample)),
        "min": float(sample.min()),
        "max": float(sample.max()),
        "95% interval": mean_interval(sample),
        "human normalised": human_normalised(game, float(sample.mean()), published),
        "length": results.mean_length,
        "P(> first)": None if first is None else probability_of_improvement(results.returns, first.returns),
        "P(> random)": None if random is None else probability_of_improvement(results.returns, random.returns),
    }
