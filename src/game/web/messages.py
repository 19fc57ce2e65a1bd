"""What goes through the socket: small JSON messages in, binary messages with a picture out."""

import io
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from files import as_json
from game.inputs import (
    Event,
    FocusLost,
    GoTo,
    KeyDown,
    KeyUp,
    Moved,
    Pause,
    SetController,
    SetDataset,
    SetDenoising,
    SetEnv,
    SetHorizon,
)
from game.key_names import BUTTONS, KEYS
from game.view import View

LARGEST_MESSAGE = 1024
"""Bytes of a message from a page."""
LARGEST_PNG = 40_000
"""Pixels of a frame that travels without loss; larger ones are JPEG."""
LONGEST_MOTION = 100_000
LARGEST_NUMBER = 1 << 53
NUMBERS, WORDS = (
    {"horizon": SetHorizon, "denoising": SetDenoising, "episode": GoTo},
    {"env": SetEnv, "controller": SetController, "dataset": SetDataset},
)


class Malformed(Exception):
    """A message that no page of ours sends."""


@dataclass(frozen=True)
class Seen:
    """The page has drawn the view of that number."""

    number: int


@dataclass(frozen=True)
class SetRate:
    """Frames per second, 1 to 60."""

    fps: int


@dataclass(frozen=True)
class SetRun:
    """Another run, by its name in the list of runs."""

    name: str


Message = Event | Seen | SetRate | SetRun


def read_message(text: str | bytes) -> tuple[Message, int]:
    """A page's message and its sequence number; raises Malformed for anything else."""
    try:
        content = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Malformed("a JSON mapping is expected")
    return _message(content), _whole(content.get("n", 0))


def _message(content: dict[str, Any]) -> Message:
    match content:
        case {"do": "down", "key": str(key)}:
            return KeyDown(_key(key))
        case {"do": "up", "key": str(key)}:
            return KeyUp(_key(key))
        case {"do": "move", "x": int() | float() as x, "y": int() | float() as y}:
            if not max(abs(x), abs(y)) <= LONGEST_MOTION:
                raise Malformed("a motion that no hand makes")
            return Moved(float(x), float(y))
        case {"do": "blur"}:
            return FocusLost()
        case {"do": "hidden"}:
            return Pause()
        case {"do": "seen", "number": number}:
            return Seen(_whole(number))
        case {"do": "go", "episode": episode, "step": step}:
            return GoTo(_whole(episode), _whole(step))
        case {"do": "set", "name": "fps", "value": value} if 1 <= _whole(value) <= 60:
            return SetRate(_whole(value))
        case {"do": "set", "name": "run", "value": str(value)}:
            return SetRun(value)
        case {"do": "set", "name": str(name), "value": str(value)} if name in WORDS:
            return WORDS[name](value)
        case {"do": "set", "name": str(name), "value": value} if name in NUMBERS:
            return NUMBERS[name](_whole(value))
    raise Malformed("an unknown message")


def _key(name: str) -> str:
    if name not in KEYS and name not in BUTTONS.values():
        raise Malformed("a key that no keyboard has")
    return name


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST_NUMBER:
        raise Malformed("a whole number is expected")
    return value


@dataclass(frozen=True)
class Shown:
    """What a page shows beside a view: frames per second, the banner, and whether its visitor plays."""

    rate: float
    fps: float
    banner: str = ""
    message: str = ""
    is_thinking: bool = False
    is_player: bool = True


def write_view(view: View, shown: Shown) -> bytes:
    """The length of a JSON header (4 bytes, little-endian), the header, and pictures: frame, preview, strip."""
    pictures = [view.frame, *(() if view.preview is None else (view.preview,)), *view.strip]
    encoded = [encode(picture) for picture in pictures]
    header = {
        "number": view.number,
        "sequence": view.sequence,
        "fields": [{**asdict(field), "text": field.text} for field in view.fields],
        "bars": [asdict(bar) for bar in view.bars],
        "score": None if view.score is None else asdict(view.score),
        "status": view.status,
        "held": view.held,
        "choices": [asdict(choice) for choice in view.choices],
        "pointer": view.wants_pointer,
        "message": shown.message or view.message,
        "shown": asdict(shown),
        "sizes": [len(picture) for picture in encoded],
        "has_preview": view.preview is not None,
    }
    words = json.dumps(as_json(header)).encode()
    return struct.pack("<I", len(words)) + words + b"".join(encoded)


def read_view(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a view and the first picture, as a client in Python reads them."""
    (length,) = struct.unpack_from("<I", content)
    header = json.loads(content[4 : 4 + length])
    return header, content[4 + length : 4 + length + header["sizes"][0]]


def encode(frame: Tensor) -> bytes:
    """A uint8 frame (c, h, w) in its own size: PNG, or JPEG of quality 90 if it is large."""
    rgb = frame.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
    file, image = io.BytesIO(), Image.fromarray(rgb)
    if rgb.shape[0] * rgb.shape[1] <= LARGEST_PNG:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=90)
    return file.getvalue()
