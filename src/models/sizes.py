"""Checks that the sizes in a network's configuration fit together."""

from collections.abc import Iterable

from models.blocks import ATTENTION_HEAD_DIM, ImageSize, height_width, num_groups
from ranges import BadSetting, in_yaml


def check_levels(**sizes: tuple[int, ...]) -> None:
    """Raise BadSetting unless all sizes have one entry per level."""
    if len({len(entries) for entries in sizes.values()}) > 1:
        words = ", ".join(f"{name}={list(entries)}" for name, entries in sizes.items())
        raise BadSetting(f"{words}: each must have one entry per level.")


def check_normalised(channels: tuple[int, ...], widths: Iterable[int]) -> None:
    """Raise BadSetting if group normalisation cannot divide a layer; `widths` follow from `channels`."""
    for width in widths:
        if width % num_groups(width):
            raise BadSetting(
                f"channels={list(channels)} make a layer of {width}, which group normalisation cannot divide into "
                f"{num_groups(width)} groups: use multiples of 32."
            )


def check_unet(
    depths: tuple[int, ...], channels: tuple[int, ...], attn_depths: tuple[int, ...], has_skips: bool
) -> None:
    """Raise BadSetting for sizes of a U-Net that cannot be built; without skips, it is only the downward half."""
    check_levels(depths=depths, channels=channels, attn_depths=attn_depths)
    before = (channels[0], *channels[:-1])
    check_normalised(channels, channels)
    if has_skips:
        check_normalised(channels, (2 * width for width in channels))
        check_normalised(channels, (width + above for width, above in zip(channels, before, strict=True)))
    attended = [channels[-1]]
    for width, above, attn in zip(channels, before, attn_depths, strict=True):
        attended += ([width, above] if has_skips else [width]) if attn else []
    for width in attended:
        if width % (num_heads := max(1, width // ATTENTION_HEAD_DIM)):
            raise BadSetting(
                f"channels={list(channels)}: attention cannot divide {width} channels into {num_heads} heads: use "
                f"multiples of {ATTENTION_HEAD_DIM}."
            )


def check_image(img_size: ImageSize, smallest: int, because: str) -> None:
    """Raise BadSetting if a side of the image is smaller than `smallest`."""
    if min(height_width(img_size)) < smallest:
        raise BadSetting(f"img_size={in_yaml(img_size)} is too small for {because}: at least {smallest} is needed.")
