"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381) as keras.applications has it, without its weights.

Those are downloaded by Keras from a server of its own, which a build should not depend on.
"""

from __future__ import annotations

import math

import keras
import numpy as np


def mobilenet_v2(size: int = 96, alpha: float = 0.35, classes: int = 1000, weights: int = 0) -> keras.Model:
    """Pictures (N, size, size, 3) in [-1, 1] to logits (N, classes); `weights` seeds what is drawn here.

    As Keras begins, batch normalisation is the identity, which a wrong graph could leave out unseen, and 52 layers of its
    kernels let nothing of a picture through: both are drawn so that values keep their spread (He et al. 2015).
    """
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=alpha, weights=None, classes=classes, classifier_activation=None
    )
    rng = np.random.default_rng(weights)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            shape = layer.kernel.shape  # a depthwise one sees one channel at a time
            seen = math.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:3])
            layer.kernel.assign(rng.normal(0.0, math.sqrt(2 / seen), shape))
        elif isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.8, 1.2, width))
            layer.beta.assign(rng.normal(0.0, 0.1, width))
            layer.moving_mean.assign(rng.normal(0.0, 0.1, width))
            layer.moving_variance.assign(rng.uniform(0.8, 1.2, width))
    return model
