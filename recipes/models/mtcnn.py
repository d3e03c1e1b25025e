"""The three networks of MTCNN (Zhang et al. 2016, https://arxiv.org/abs/1604.02878) with the weights of the package mtcnn.

The package's own classes import TensorFlow; here the same layers are put together with Keras alone, under any backend.
Images are NHWC, RGB as (x - 127.5) / 128. `boxes` are offsets of a box's corners in parts of its size, `faces` the
probabilities of (no face, face), `landmarks` five points as x1…x5, y1…y5.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import joblib
import keras
from keras import layers


def pnet() -> keras.Model:
    """Proposes: pictures (N, H, W, 3) to boxes (N, h, w, 4) and faces (N, h, w, 2), a place every second pixel."""
    image = keras.Input((None, None, 3), name="image")
    x = _convolution(image, 1, 10, 3)
    x = layers.MaxPooling2D(2, 2, padding="same")(x)
    x = _convolution(x, 2, 16, 3)
    x = _convolution(x, 3, 32, 3)
    boxes = layers.Conv2D(4, 1, name="boxes")(x)
    faces = layers.Conv2D(2, 1, activation="softmax", name="faces")(x)
    return _trained(keras.Model(image, [boxes, faces], name="pnet"), "pnet")


def rnet() -> keras.Model:
    """Refines: patches (N, 24, 24, 3) to boxes (N, 4) and faces (N, 2)."""
    image = keras.Input((24, 24, 3), name="image")
    x = _convolution(image, 1, 28, 3)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _convolution(x, 2, 48, 3)
    x = layers.MaxPooling2D(3, 2)(x)
    x = _dense(_convolution(x, 3, 64, 2), 4, 128)
    boxes = layers.Dense(4, name="boxes")(x)
    faces = layers.Dense(2, activation="softmax", name="faces")(x)
    return _trained(keras.Model(image, [boxes, faces], name="rnet"), "rnet")


def onet() -> keras.Model:
    """Has the last word: patches (N, 48, 48, 3) to boxes (N, 4), landmarks (N, 10) and faces (N, 2)."""
    image = keras.Input((48, 48, 3), name="image")
    x = _convolution(image, 1, 32, 3)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = _convolution(x, 2, 64, 3)
    x = layers.MaxPooling2D(3, 2)(x)
    x = _convolution(x, 3, 64, 3)
    x = layers.MaxPooling2D(2, 2, padding="same")(x)
    x = _dense(_convolution(x, 4, 128, 2), 5, 256)
    boxes = layers.Dense(4, name="boxes")(x)
    landmarks = layers.Dense(10, name="landmarks")(x)
    faces = layers.Dense(2, activation="softmax", name="faces")(x)
    return _trained(keras.Model(image, [boxes, landmarks, faces], name="onet"), "onet")


def _convolution(x: keras.KerasTensor, number: int, filters: int, size: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, size, name=f"conv{number}")(x)
    return layers.PReLU(shared_axes=[1, 2], name=f"prelu{number}")(x)


def _dense(x: keras.KerasTensor, number: int, units: int) -> keras.KerasTensor:
    x = layers.Flatten()(layers.Permute((2, 1, 3))(x))  # the weights were made where a picture's columns come first
    return layers.PReLU(name=f"prelu{number}")(layers.Dense(units, name=f"fc{number}")(x))


def _trained(model: keras.Model, name: str) -> keras.Model:
    """The model with its weights out of the package: a list of arrays, pickled, so trusted as the package's code is."""
    spec = find_spec("mtcnn")  # finds it without the import of TensorFlow
    folder = Path(next(iter(spec.submodule_search_locations)))
    model.set_weights(joblib.load(folder / "assets" / "weights" / f"{name}.lz4"))
    return model
