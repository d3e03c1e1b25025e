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
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if options.colour == "L" else "RGB")
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
