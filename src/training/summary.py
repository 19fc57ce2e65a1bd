"""The summary of a finished run, read from its files."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from run.folder import RunFolder, resume_command
from run.log import read_metrics


def summarize(folder: RunFolder, shown: Mapping[str, str]) -> str:
    """The run's path, test returns, metrics before and after training, and the paths of its video and curves.

    `shown` maps labels to the names of the metrics to show.
    """
    metrics = read_metrics(folder.metrics)
    lines = [f"Run: {folder.path}"]
    evaluations = _history(metrics, "collection/test/return_mean")
    if evaluations:
        some = evaluations if len(evaluations) <= 6 else [*evaluations[:3], *evaluations[-3:]]
        lines.append("Test return: " + ", ".join(f"{value:.2f} (epoch {epoch})" for epoch, value in some))
    for name, words in (("final", "Final test return"), ("random", "Return of random play")):
        for line in [line for line in metrics if f"collection/{name}/return_mean" in line][-1:]:
            count, mean, spread = (line[f"collection/{name}/{each}"] for each in _EPISODES)
            lines.append(f"{words}: {mean:.2f} ± {spread:.2f} (mean and standard deviation of {int(count)} episodes)")
    for words, name in shown.items():
        history = _history(metrics, name)
        if len(history) == 1:
            lines.append(f"{words}: {history[0][1]:.4f}")
        elif history:
            lines.append(f"{words}: {history[0][1]:.4f} before, {history[-1][1]:.4f} after")
    videos = sorted(folder.media.glob("*.mp4"))
    if videos:
        lines.append(f"Video of real beside imagined frames: {videos[-1]}")
    if (folder.media / "curves.png").exists():
        lines.append(f"Curves: {folder.media / 'curves.png'}")
    return "\n".join(lines)


_EPISODES = ("num_episodes", "return_mean", "return_std")


def next_commands(folder: RunFolder, has_game: bool) -> str:
    """Commands for what was trained; `has_game`: there is a real game in which its policy can be evaluated."""
    run = shown(folder.path)
    evaluate = f"  python src/evaluate.py {run}" if has_game else f"  python src/evaluate.py {run} --world"
    return "\n".join(
        (
            "Next:",
            f"  python src/play.py --run {run}        (with --web: in a browser)",
            evaluate,
            f"  python src/play.py --run {run} --video film.mp4",
            f"  tensorboard --logdir {shown(folder.tensorboard)}",
        )
    )


def shown(path: Path) -> str:
    """A path as it can be typed in the current folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) and path != here else path))


def how_to_resume(folder: RunFolder) -> str:
    return f"Resume with: {resume_command(folder)}"


def _history(metrics: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(int(line["epoch"]), line[name]) for line in metrics if name in line]
