"""Pictures and videos of a run."""

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg
import matplotlib
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from errors import UserError

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def write_video(frames: Iterable[np.ndarray], size: tuple[int, int], path: Path, fps: int = 15) -> None:
    """Write uint8 frames (h, w, 3) of the given size (height, width) to a video.

    An `.mp4` is H.264, which browsers play; a `.gif` loops forever. The file appears when the video is complete.
    Raises UserError for any other kind of file, or if it cannot be written.
    """
    check_film_path(path)
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        count = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal count
            for count, frame in enumerate(frames, start=1):
                if frame.shape[:2] != size:
                    raise ValueError(f"frame {count} of the film is {frame.shape[:2]}, the film {size}")
                yield frame

        writers[path.suffix.lower()](counted(), size, beside, fps)
        # ffmpeg reports no error when the disk is full.
        if imageio_ffmpeg.count_frames_and_secs(str(beside))[0] != count:
            raise UserError(f"{path} could not be written whole: is the disk full?")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_film_path(path: Path) -> None:
    """Raise UserError if no video can be written at this path."""
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise UserError(f"{path} cannot be written: a film's name ends in .mp4 or .gif.")
    if path.is_dir():
        raise UserError(f"{path} cannot be written: it is a folder.")


def _write_mp4(frames: Iterable[np.ndarray], size: tuple[int, int], path: Path, fps: int) -> None:
    _find_ffmpeg()
    height, width = size
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def _find_ffmpeg() -> None:
    """Find the program. imageio-ffmpeg starts it for a test, which ends early if Ctrl-C reaches that process too."""
    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        imageio_ffmpeg.get_ffmpeg_exe()


def _write_gif(frames: Iterable[np.ndarray], size: tuple[int, int], path: Path, fps: int) -> None:
    images = (Image.fromarray(frame) for frame in frames)
    next(images).save(path, save_all=True, append_images=images, duration=round(1000 / fps), loop=0)


def write_picture(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 pixels (h, w, 3) to a PNG, which appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        Image.fromarray(pixels).save(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def label_columns(columns: dict[str, Tensor], height: int = 256) -> np.ndarray:
    """Videos side by side under their names: uint8 (t, c, h, w) each, to uint8 (t, H, W, 3), with pixels enlarged."""
    scale = max(1, height // next(iter(columns.values())).size(-2))
    films = []
    for name, film in columns.items():
        rgb = film.expand(-1, 3, -1, -1) if film.size(1) == 1 else film
        large = interpolate(rgb.float(), scale_factor=scale, mode="nearest").byte().permute(0, 2, 3, 1).cpu().numpy()
        header = Image.new("RGB", (large.shape[2], 20))
        ImageDraw.Draw(header).text((4, 4), name, fill="white")
        headers = np.broadcast_to(np.asarray(header), (len(large), 20, large.shape[2], 3))
        films.append(np.concatenate((headers, large), axis=1))
        films.append(np.zeros((*films[-1].shape[:2], 4, 3), np.uint8))
    return np.concatenate(films[:-1], axis=2)


def draw_curves(metrics: list[dict[str, float]], path: Path) -> None:
    """Plot returns and losses over epochs, one panel per quantity, from the lines of `metrics.jsonl`."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in metrics:
        for name, value in line.items():
            panel, _, curve = _panel_and_curve(name)
            if panel:
                panels.setdefault(panel, {}).setdefault(curve, []).append((line["epoch"], value))
    if not panels:
        return
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.5 * columns, 3 * rows), squeeze=False)
    for axis, (panel, curves) in zip(axes.flat, sorted(panels.items()), strict=False):
        for curve, points in sorted(curves.items()):
            axis.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else None, markersize=3, label=curve)
        axis.set(title=panel, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    # Fixed margins in inches: computing them takes as long as drawing.
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.15 / width,
        bottom=0.5 / height,
        top=1 - 0.35 / height,
        wspace=0.24,
        hspace=0.35,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel_and_curve(name: str) -> tuple[str, str, str]:
    """The panel, separator and curve of a metric; the panel is empty for a metric that is not plotted."""
    owner, _, rest = name.partition("/")
    split, _, quantity = rest.partition("/")
    if owner == "collection" and quantity == "return_mean":
        return "return", "/", f"{split}"
    if quantity.startswith("loss") and split != "updates":
        return f"{owner}: {quantity}", "/", split
    return "", "", ""
