from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytestmark = pytest.mark.recipes

RATE = 16_000
CONTEXT, CHUNK = 64, 512
Step = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Three seconds, a voice saying "ah" four times a second between 0.7 s and 2.2 s: pulses through three formants."""
    from scipy.signal import lfilter

    time = np.arange(3 * RATE) / RATE
    noise = np.random.default_rng(0)
    pitch = 120 * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
    voice = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) + 0.01 * noise.standard_normal(time.size)
    for formant, bandwidth in ((700, 90), (1220, 110), (2600, 160)):
        radius = np.exp(-np.pi * bandwidth / RATE)
        voice = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant / RATE), radius**2], voice)
    envelope = np.clip(2 * np.sin(2 * np.pi * 4 * time) + 0.8, 0, 1) * ((time > 0.7) & (time < 2.2))
    audio = 0.5 * voice / np.abs(voice).max() * envelope + 0.001 * noise.standard_normal(time.size)
    return audio.astype(np.float32)


def probabilities(step: Step, audio: np.ndarray) -> np.ndarray:
    """Speech probability of each whole chunk, the state handed on from step to step."""
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32), []
    for chunk in audio[: audio.size // CHUNK * CHUNK].reshape(-1, CHUNK):
        probability, state = step(np.concatenate([context, chunk])[None], state)
        context = chunk[-CONTEXT:]
        found.append(probability[0, 0])
    return np.array(found)


@pytest.fixture(scope="module")
def shipped(package, speech) -> np.ndarray:
    """What the package's own ONNX file says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(package("silero_vad") / "data" / "silero_vad.onnx")
    rate = np.array(RATE, np.int64)
    return probabilities(lambda audio, state: session.run(None, {"input": audio, "state": state, "sr": rate}), speech)


def test_probabilities_are_the_packages_own(build, shipped, speech) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(build("silero-vad").model)
    ours = probabilities(lambda audio, state: session.run(None, {"audio": audio, "state": state}), speech)
    np.testing.assert_allclose(ours, shipped, rtol=1e-3, atol=1e-4)


def test_the_optimised_shipped_file_says_the_same(build, shipped, speech) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(build("silero-vad-onnx").model)
    rate = np.array(RATE, np.int64)
    ours = probabilities(lambda audio, state: session.run(None, {"input": audio, "sr": rate, "state": state}), speech)
    np.testing.assert_allclose(ours, shipped, rtol=1e-3, atol=1e-4)


def test_it_hears_the_voice_and_the_pauses(build, speech) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(build("silero-vad").model)
    found = probabilities(lambda audio, state: session.run(None, {"audio": audio, "state": state}), speech)
    seconds = (np.arange(found.size) + 0.5) * CHUNK / RATE
    assert found[(seconds > 0.9) & (seconds < 1.4)].min() > 0.5
    assert found[seconds < 0.6].max() < 0.2
    assert found[seconds > 2.6].max() < 0.2
