from __future__ import annotations

import pytest

from onnxbuild.text import units


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0.00 s"), (0.094, "0.09 s"), (0.996, "1.0 s"), (9.41, "9.4 s"), (59.96, "1 min 00 s"),
     (185.4, "3 min 05 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min")],
)  # fmt: skip
def test_seconds(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00042, "0.42 µs"), (0.00707, "7.07 µs"), (0.0123, "12.3 µs"), (0.123, "123 µs"), (0.99949, "999 µs"),
     (0.9995, "1.00 ms"), (40.9, "40.9 ms"), (582.4, "582 ms"), (12_345.6, "12,346 ms")],
)  # fmt: skip
def test_a_latency_keeps_digits_that_tell_it_from_another(value, text):
    assert units.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (99_960, "100 kB"), (999_499, "999 kB"),
     (999_500, "1.00 MB"), (102_341_120, "102 MB"), (2_147_483_648, "2.15 GB")],
)  # fmt: skip
def test_size(value, text):
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0 %"), (1e-9, "<0.01 %"), (0.0042, "0.42 %"), (0.0261, "2.6 %"), (0.99999, "99.9 %"),
     (1.0, "100 %"), (1.0000001, "1.01 ×"), (28.31, "28.3 ×"), (999_999_999, "999,999,999 ×"), (1.2214e50, "1.22e+50 ×"),
     (float("inf"), "∞")],
)  # fmt: skip
def test_a_share_never_rounds_across_the_tolerance(value, text):
    assert units.share(value) == text


def test_counts_and_signs():
    assert [units.count(n) for n in (None, 9_999, 25_557_032, 7_000_000_000)] == ["", "9,999", "25.6 M", "7.00 G"]
    assert [units.signed(n) for n in (-53, 0, 1200)] == ["\u221253", "", "+1,200"]
    assert [units.plural(n, "stage") for n in (1, 2)] == ["1 stage", "2 stages"]


def test_shape_tells_static_named_and_unknown_sizes():
    assert units.shape(["batch", 3, None]) == "[batch, 3, ?]"


@pytest.mark.parametrize("limit", range(1, 12))
def test_clip_keeps_both_ends_within_the_limit(limit):
    text = units.clip("abcdefghij", limit)
    assert len(text) == min(limit, 10)
    assert text == "abcdefghij" or "…" in text


def test_plain_takes_escapes_away_and_keeps_lines():
    assert units.plain("\x1b[1;31mred\x1b[0m\r\n\ttab\x1b]0;title\x07\x08") == "red\n\ttab\ufffd"
    assert units.line("a\n b\x1b[2K\tc") == "a b c"


def test_sizes_in_a_row_are_a_range():
    assert units.sizes([3, 1, 2, 5]) == "1, 2, 3, 5"
    assert units.sizes([*range(1, 65), 70, 71, 72, 73]) == "1 to 64, 70 to 73"
    assert units.sizes([]) == ""
