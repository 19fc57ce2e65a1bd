"""The quickstart on real Freeway, cut short: it must still learn, and print what the full one prints."""

from pathlib import Path

import pytest

import runs
from run.folder import RunFolder
from run.log import read_metrics

CUT_SHORT = [
    "collection.train.num_steps_total=1000",
    "collection.test.num_envs=2",
    "collection.test.num_episodes=2",
    "collection.test.num_final_episodes=2",
    "training.num_final_epochs=0",
    "denoiser.training.steps_first_epoch=150",
    "rew_end_model.training.steps_first_epoch=10",
    "actor_critic.training.steps_first_epoch=1",
    "evaluation.video_steps=10",
]


@pytest.mark.slow
def test_quickstart_learns_and_tells(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = runs.command(*CUT_SHORT, "+experiment=quickstart", "common.device=cpu", "common.seed=0")
    result = runs.run([*command, f"hydra.run.dir={folder.path}"], timeout=2400)
    assert result.returncode == 0, result.stderr
    name = "denoiser/test/loss_denoising"
    losses = {line["epoch"]: line[name] for line in read_metrics(folder.metrics) if name in line}
    # The untrained model's loss, and the last one, with less than half of the quickstart's updates.
    assert losses[1] <= losses[0] / 3
    for words in (
        f"Run: {folder.path}",
        "Test return: ",
        "Final test return: ",
        "Return of random play: ",
        f"Denoiser test loss: {losses[0]:.4f} before, {losses[1]:.4f} after",
        "Reward and end model test loss: ",
        f"Video of real beside imagined frames: {folder.media}/real_and_imagined_epoch_00001.mp4",
        "Next:",
    ):
        assert words in result.stdout
    assert "about" in result.stdout.split("Epoch 1/1")[1]
    assert (folder.media / "real_and_imagined_epoch_00001.mp4").stat().st_size > 1000
