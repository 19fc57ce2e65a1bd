"""The summary of a finished run, read from its files."""

from collections.abc import Mapping

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
    for line in [line for line in metrics if "collection/final/return_mean" in line][-1:]:
        count, mean = int(line["collection/final/num_episodes"]), line["collection/final/return_mean"]
        spread = line["collection/final/return_std"]
        lines.append(f"Final test return: {mean:.2f} ± {spread:.2f} (mean and standard deviation of {count} episodes)")
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


def next_commands(folder: RunFolder) -> str:
    """Suggestions for commands after this run."""
    return "\n".join(
        (
            "Next:",
            f"  tensorboard --logdir {folder.tensorboard}",
            "  python src/main.py env.train.id=PongNoFrameskip-v4 +experiment=quickstart",
            "  python src/main.py env.train.id=BreakoutNoFrameskip-v4 common.device=cuda:0",
        )
    )


def how_to_resume(folder: RunFolder) -> str:
    return f"Resume with: {resume_command(folder)}"


def _history(metrics: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(int(line["epoch"]), line[name]) for line in metrics if name in line]
