"""What was measured, as a table to read and as JSON to compare with later."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.timing import Result
from benchmarks.ways import Bench
from files import write_text_atomically
from run.measure import device_name, file_name

UPDATES_OF_FIRST_EPOCH = {"denoiser update": 10_000, "reward/end update": 10_000, "actor-critic update": 5_000}
UPDATES_OF_LATER_EPOCHS = 400 * 1_000
"""Of each component, in about 1,000 epochs of the published Atari 100k schedule."""


@dataclass
class Numbers:
    """All that was measured so far; what was left out is empty, or None."""

    results: list[Result] = field(default_factory=list)
    steps_per_second: dict[str, float] = field(default_factory=dict)
    full_frames_seconds: float | None = None


def table(results: list[Result]) -> str:
    """Both ways side by side, with what the default one achieves."""
    header = ("", "plain", "default", "ratio", "TFLOP/s", "GB moved eagerly", "peak GB")
    rows = [header, *[_row(result) for result in results]]
    updates = [result for result in results if result.name in UPDATES_OF_FIRST_EPOCH]
    has_all_updates = len(updates) == len(UPDATES_OF_FIRST_EPOCH)
    if has_all_updates:
        plain, default = sum(each.plain_seconds for each in updates), sum(each.default_seconds for each in updates)
        rows.append(("whole update", duration(plain), duration(default), f"{plain / default:.1f}×", "", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    if has_all_updates:
        lines.append(f"Updates of a full Atari 100k run at this pace: {_full_run_hours(updates):.1f} hours")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.2f} ms"


def write_numbers(numbers: Numbers, bench: Bench, output: Path) -> Path:
    """Write the numbers as JSON, with what is needed to understand them later; returns the file."""
    content = {
        "device": device_name(bench.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "default_precision": str(bench.default.precision),
        "default_is_compiled": bench.default.is_compiled,
        "sizes": asdict(bench.sizes),
        "results": [{**asdict(result), "ratio": result.ratio} for result in numbers.results],
        "steps_per_second": numbers.steps_per_second,
        "full_frames_seconds": numbers.full_frames_seconds,
    }
    path = output / f"{file_name(bench.device)}.json"
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def _row(result: Result) -> tuple[str, ...]:
    frames_per_second = f" ({result.frames / result.default_seconds:.1f} frames/s)" if result.frames else ""
    peaks = (result.plain_peak_gb, result.default_peak_gb)
    return (
        result.name + frames_per_second,
        duration(result.plain_seconds),
        duration(result.default_seconds),
        f"{result.ratio:.1f}×",
        f"{result.tflop / result.default_seconds:.2f}" if result.tflop else "",
        f"{result.eager_gb_moved:.1f}" if result.eager_gb_moved else "",
        "" if None in peaks else f"{peaks[0]:.1f} → {peaks[1]:.1f}",
    )


def _full_run_hours(updates: list[Result]) -> float:
    counts = {name: first + UPDATES_OF_LATER_EPOCHS for name, first in UPDATES_OF_FIRST_EPOCH.items()}
    return sum(each.default_seconds * counts[each.name] for each in updates) / 3600
