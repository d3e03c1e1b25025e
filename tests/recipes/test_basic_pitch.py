from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.recipes

RATE, SAMPLES = 22050, 43844  # what the model takes: about two seconds, of which it gives 172 frames
LOWEST = 21  # MIDI number of the first of 88 notes
SOUNDS = 0.3  # basic_pitch's own frame_threshold


def notes(frames: np.ndarray) -> list[int]:
    """The MIDI numbers of the notes that sound through most of a recording, by the model's own probabilities."""
    return [int(note) + LOWEST for note in np.flatnonzero((frames > SOUNDS).mean(0) > 0.5)]


def tones(*hertz: float) -> np.ndarray:
    time = np.arange(SAMPLES) / RATE
    return (0.3 * sum(np.sin(2 * np.pi * f * time) for f in hertz)).astype(np.float32)


def test_two_tones_are_written_down(build, package) -> None:
    package("basic_pitch")
    built = build("basic-pitch")
    audio = np.stack([tones(440.0, 659.26), tones(261.63), np.zeros(SAMPLES, np.float32)])[..., None]
    contour, note, onset = built.run(input_2=audio)
    assert (contour.shape, note.shape, onset.shape) == ((3, 172, 264), (3, 172, 88), (3, 172, 88))
    assert [notes(frames) for frames in note] == [[69, 76], [60], []]


def test_two_tones_are_written_down_through_openvino(build, package, through_openvino) -> None:
    """From TensorFlow by way of ONNX."""
    package("basic_pitch")
    built = build("basic-pitch")
    (told,) = built.report["targets"]
    audio = np.stack([tones(440.0, 659.26), tones(261.63)])[..., None]
    expected = built.run(input_2=audio)
    outputs = through_openvino(built.model, input_2=audio)

    assert (told["name"], told["level"]) == ("openvino", "run")
    assert [notes(frames) for frames in outputs[1]] == [[69, 76], [60]]
    for array, other in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-3, atol=1e-5)


@pytest.mark.heavy
def test_another_process_gives_the_same_bytes(build, rebuild, package) -> None:
    """With another hash seed, too: tf2onnx goes through sets, and what is left of a graph depends on their order."""
    package("basic_pitch")
    build("basic-pitch")
    assert "export, the same bytes" in rebuild("basic-pitch")


def test_it_is_what_the_package_ships_as_onnx(build, package) -> None:
    """The same model, converted by its authors."""
    import onnxruntime

    folder = package("basic_pitch")
    shipped = onnxruntime.InferenceSession(
        folder / "saved_models/icassp_2022/nmp.onnx", providers=["CPUExecutionProvider"]
    )
    audio = np.random.default_rng(4).standard_normal((2, SAMPLES, 1)).astype(np.float32) * 0.1
    theirs = shipped.run(None, {shipped.get_inputs()[0].name: audio})
    built = build("basic-pitch")
    ours = built.run(input_2=audio)
    for array in ours:
        assert any(array.shape == other.shape and np.abs(array - other).max() < 1e-4 for other in theirs)
