"""A picture as a tensor, by the options of a dataset of images. Knows no model.

Sizes are rounded as torchvision does it: the longer side down, the middle to the nearest pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from onnxbuild.parity.datasets import Images


def tensor(path: Path, name: str, options: Images) -> np.ndarray[Any, Any]:
    """(pixels * scale - mean) / std in float32, of shape [channels, height, width] or [height, width, channels].

    Raises StageError where the file can't be read as a picture.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = _of_8_bits(ImageOps.exif_transpose(opened), name)
            picture = picture.convert("L" if options.colour == "L" else "RGB")
    except StageError:
        raise
    except Exception as error:  # noqa: BLE001  # the decoders raise what they like
        raise StageError(
            f"{name} can't be read as a picture: {error}", "take it out of the folder, or mend it"
        ) from None
    pixels = np.asarray(_scaled(picture, options), np.float32)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    pixels = pixels[:, :, ::-1] if options.colour == "BGR" else pixels
    values: np.ndarray[Any, Any] = pixels * np.float32(options.scale)
    values = values - np.array(options.mean, np.float32) if options.mean else values
    values = values / np.array(options.std, np.float32) if options.std else values
    return np.ascontiguousarray(values.transpose(2, 0, 1) if options.layout == "NCHW" else values)


def _of_8_bits(picture: Image, name: str) -> Image:
    """The upper 8 bits of 16, as Pillow itself takes them of colours; of shades it would show all of them white."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        fact = f"{name} has pixels of 32 bits, whose range is not known"
        raise StageError(fact, "save it with 8 or 16 bits for each channel")
    return picture


def _scaled(picture: Image, options: Images) -> Image:
    from PIL import Image

    height, width = options.size
    how = Image.Resampling[options.interpolation.upper()]
    if options.shorter_side is UNSET:
        return picture.resize((width, height), how)
    short, long = sorted(picture.size)
    longer = int(options.shorter_side * long / short)
    across = picture.size[0] <= picture.size[1]
    scaled = picture.resize((options.shorter_side, longer) if across else (longer, options.shorter_side), how)
    left, top = round((scaled.size[0] - width) / 2), round((scaled.size[1] - height) / 2)
    return scaled.crop((left, top, left + width, top + height))
