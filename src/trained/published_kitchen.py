"""Run folders of the published kitchen predictor: `checkpoints/` with `.pth` files and their settings."""

from pathlib import Path
from typing import Any

from errors import UserError
from files import load_json

SETTINGS = Path("checkpoints") / "latest_config.json"
NAMES = ("latest_checkpoint.pth", "best_model.pth")


def is_published_kitchen(folder: Path) -> bool:
    """Whether a folder is a run of the published kitchen predictor."""
    return (folder / SETTINGS).is_file()


def kitchen_weights(folder: Path) -> list[Path]:
    """The files of weights in such a folder, the newest first; `best_model.pth` is the last."""
    numbered = sorted((folder / "checkpoints").glob("checkpoint_epoch_*.pth"), reverse=True)
    named = [folder / "checkpoints" / name for name in NAMES]
    return [path for path in (named[0], *numbered, named[1]) if path.is_file()]


def kitchen_overrides(folder: Path) -> list[str]:
    """The settings of such a run as overrides of this project's; raises UserError for those that cannot be read."""
    path = folder / SETTINGS
    stored = load_json(path)
    try:
        model, training = stored["model_config"], stored["training_args"]
        own: dict[str, Any] = {
            "agent.denoiser.inner_model.base_channels": int(model["base_channels"]),
            "agent.denoiser.inner_model.channel_mults": _whole(model["channel_mults"]),
            "agent.denoiser.inner_model.num_res_blocks_per_level": int(model["num_res_blocks_per_level"]),
            "agent.denoiser.inner_model.attention_resolutions": _whole(model["attention_resolutions"]),
            "agent.denoiser.inner_model.time_emb_dim": int(model["time_emb_dim"]),
            "agent.denoiser.inner_model.time_emb_mlp_dim": int(model["time_emb_mlp_dim"]),
            "agent.denoiser.inner_model.dropout_rate": float(model["dropout_rate"]),
            "agent.denoiser.inner_model.initial_img_resolution": int(model["initial_img_resolution"]),
            "agent.denoiser.schedule.num_steps": int(training["diffusion_timesteps"]),
            "agent.denoiser.schedule.beta_start": float(training["beta_start"]),
            "agent.denoiser.schedule.beta_end": float(training["beta_end"]),
            "env.train.size": [int(training["img_resolution"])] * 2,
            "env.train.grayscale": str(int(model["out_img_channels"]) == 1).lower(),
            "static_dataset.stride": int(training["k_step_future"]),
            "common.seed": 0,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} has not the settings of a kitchen predictor ({error!r}).") from None
    return ["+experiment=kitchen", *(f"{name}={value}" for name, value in own.items())]


def _whole(values: Any) -> list[int]:
    return [int(value) for value in values]
