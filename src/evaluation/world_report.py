"""The measurements of a world as a table, a JSON file and a figure."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evaluation.world_statistics import Curve
from evaluation.world_summary import Metric
from files import write_atomically, write_text_atomically

STEPS = (1, 5, 10, 20, 50)
"""The steps of the horizon that the table shows."""
COLUMNS_OF_FIGURE = 3


def make_table(metrics: Sequence[Metric], counts: np.ndarray) -> str:
    """One line for each metric and way of predicting, at the steps `STEPS` and the last one."""
    steps = sorted({step for step in STEPS if step <= len(counts)} | {len(counts)})
    lines = [_line("step", "", [str(step) for step in steps])]
    lines.append(_line("segments", "", [str(counts[step - 1]) for step in steps]))
    for metric in metrics:
        for place, (way, curve) in enumerate(metric.curves.items()):
            name = f"{metric.name}{metric.unit and f' ({metric.unit})'}" if place == 0 else ""
            lines.append(_line(name, way, [_in_words(curve.value[step - 1], metric.unit) for step in steps]))
    return "\n".join(lines)


def write_json(facts: dict[str, Any], metrics: Sequence[Metric], counts: np.ndarray, path: Path) -> None:
    """Facts about the measurement, and all curves with their intervals.

    Numbers that are infinite are the strings "inf" and "-inf", and those that are unknown are null.
    """
    curves = {metric.name: {way: _as_json(curve) for way, curve in metric.curves.items()} for metric in metrics}
    content = {**facts, "segments_at_step": counts.tolist(), "metrics": curves}
    write_text_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def draw_figure(metrics: Sequence[Metric], title: str, path: Path) -> None:
    """One panel for each metric: its curves over the steps of the horizon, with their intervals."""
    columns = min(COLUMNS_OF_FIGURE, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    width, height = 4.6 * columns, 3.2 * rows + 0.3
    figure = Figure(figsize=(width, height))
    ways = list(dict.fromkeys(way for metric in metrics for way in metric.curves))
    for place, metric in enumerate(metrics):
        axis = figure.add_subplot(rows, columns, place + 1)
        for way, curve in metric.curves.items():
            _draw(axis, way, curve, f"C{ways.index(way)}")
        axis.set(title=metric.name, xlabel="step", ylabel=metric.unit, ylim=metric.limits)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.suptitle(title)
    # Fixed margins in inches: computing them takes as long as drawing.
    figure.subplots_adjust(
        left=0.7 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - 0.75 / height,
        wspace=0.24,
        hspace=0.4,
    )
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _draw(axis: Any, way: str, curve: Curve, colour: str) -> None:
    steps = np.arange(1, len(curve.value) + 1)
    limits = [np.where(np.isfinite(limit), limit, np.nan) for limit in (curve.low, curve.high)]
    value = np.where(np.isfinite(curve.value), curve.value, np.nan)
    axis.plot(steps, value, label=way, color=colour, marker="o" if len(steps) < 3 else None)
    axis.set_xlim(0.5, len(steps) + 0.5)
    axis.fill_between(steps, *limits, color=colour, alpha=0.2, linewidth=0)


def _line(name: str, way: str, cells: Sequence[str]) -> str:
    return f"{name:<26}{way:<10}" + "".join(f"{cell:>9}" for cell in cells)


def _in_words(number: float, unit: str) -> str:
    return "–" if math.isnan(number) else f"{number:.{2 if unit else 3}f}"


def _as_json(curve: Curve) -> dict[str, list[float | str | None]]:
    return {name: [_number(each) for each in values.tolist()] for name, values in vars(curve).items()}


def _number(number: float) -> float | str | None:
    if math.isnan(number):
        return None
    return round(number, 6) if math.isfinite(number) else str(number)
