"""The figure of a comparison: one or more rows of panels for each game, a colour for each kind of agent."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from evaluation.comparison import RETURN, SPEED, Band, band, components, loss_name
from evaluation.histories import Curve, History
from evaluation.runs import Group, group_runs
from files import write_atomically

PANEL = (4.0, 3.0)
"""Width and height of a panel in inches."""
MOST_IN_A_ROW = 5
Points = tuple[np.ndarray, np.ndarray]


def draw_comparison(histories: Sequence[History], path: Path) -> None:
    """Draw returns against real steps and hours, losses against epochs, and updates per second, as a PNG."""
    groups = group_runs([history.run for history in histories])
    labels = list(dict.fromkeys(group.label for group in groups))
    games = list(dict.fromkeys(group.game for group in groups))
    parts = components(histories)
    count = 3 + len(parts)
    rows_of_game = -(-count // MOST_IN_A_ROW)
    width, height = -(-count // rows_of_game), rows_of_game * len(games)
    figure, axes = plt.subplots(
        height, width, figsize=(PANEL[0] * width, PANEL[1] * height + 0.5), squeeze=False, layout="constrained"
    )
    for panels, game in zip(axes.reshape(len(games), -1), games, strict=True):
        row = panels[:count]
        for empty in panels[count:]:
            empty.set_visible(False)
        own = [
            (group, f"C{labels.index(group.label)}", [histories[member] for member in group.members])
            for group in groups
            if group.game == game
        ]
        _curves(row[0], own, f"{game}: return", "real steps", lambda run: _return(run, lambda curve: curve.steps))
        _curves(row[1], own, f"{game}: return", "hours", lambda run: _return(run, lambda curve: curve.hours))
        for axis, part in zip(row[2:], parts, strict=False):
            _curves(axis, own, f"{part}: loss", "epochs", lambda run, part=part: _loss(run, part))
        _speeds(row[-1], own, parts)
    handles = [plt.Line2D([], [], color=f"C{place}") for place in range(len(labels))]
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    plt.close(figure)
    write_atomically(path, lambda file: file.write(content.getvalue()))


def return_bands(histories: Sequence[History], group: Group) -> dict[str, Band]:
    """The learning curves of a group of runs, against `steps` and `hours`, where these are known."""
    runs = [histories[member] for member in group.members]
    found = {
        "steps": band([_return(run, lambda curve: curve.steps) for run in runs]),
        "hours": band([_return(run, lambda curve: curve.hours) for run in runs]),
    }
    return {name: each for name, each in found.items() if each is not None}


def _return(run: History, place: Callable[[Curve], np.ndarray]) -> Points:
    curve = run.curve(RETURN)
    return place(curve), curve.values


def _loss(run: History, part: str) -> Points:
    curve = run.curve(loss_name(part, run) or "")
    return curve.epochs, curve.values


def _curves(
    axis: Axes,
    groups: Sequence[tuple[Group, str, list[History]]],
    title: str,
    words: str,
    points: Callable[[History], Points],
) -> None:
    """The mean over the runs of each group, in their colour, with its interval; each run as a thin line."""
    is_empty = True
    for _, colour, runs in groups:
        curves = [curve for curve in map(points, runs) if np.isfinite(curve[0]).any()]
        for x, y in curves if len(curves) > 1 else []:
            axis.plot(x, y, color=colour, linewidth=0.7, alpha=0.4)
        mean = band(curves)
        if mean is None:
            continue
        is_empty = False
        axis.plot(mean.x, mean.mean, color=colour, marker="o" if len(mean.x) < 30 else None, markersize=3)
        if mean.low is not None:
            axis.fill_between(mean.x, mean.low, mean.high, color=colour, alpha=0.2, linewidth=0)
    axis.set(title=title, xlabel=words)
    axis.grid(alpha=0.3)
    if is_empty:
        axis.text(0.5, 0.5, "not in these logs", ha="center", va="center", transform=axis.transAxes, color="grey")


def _speeds(axis: Axes, groups: Sequence[tuple[Group, str, list[History]]], parts: Sequence[str]) -> None:
    """Bars of the updates per second of each component: the mean over runs and epochs."""
    breadth = 0.8 / len(groups)
    for place, (_, colour, runs) in enumerate(groups):
        for number, part in enumerate(parts):
            speeds = [run.curve(f"time/{part}/{SPEED}").values for run in runs]
            known = np.concatenate(speeds)
            if len(known):
                axis.barh(number + (place - (len(groups) - 1) / 2) * breadth, known.mean(), breadth, color=colour)
    axis.set(title="updates per second", yticks=range(len(parts)), yticklabels=parts)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
