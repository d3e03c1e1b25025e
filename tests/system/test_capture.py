from __future__ import annotations

import logging
import warnings

from onnxbuild.system.capture import listening, scrub


def test_warnings_and_log_records_are_heard_once_and_not_printed(tmp_path, capfd):
    logger = logging.getLogger("a.library")
    logger.addHandler(logging.StreamHandler())
    try:
        with listening(tmp_path) as heard:
            for _ in range(2):
                warnings.warn("mind the gap", stacklevel=1)
                logger.warning("late by %d", 3)
            logger.info("all is well")
            logging.getLogger("another").error("broken")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        logger.handlers.clear()

    assert heard == ["UserWarning: mind the gap", "late by 3", "broken"]
    assert capfd.readouterr() == ("", "")


def test_the_place_of_a_warning_in_the_project_is_kept(tmp_path):
    file = tmp_path / "model.py"
    with listening(tmp_path) as heard:
        warnings.warn_explicit("here", UserWarning, str(file), 12)

    assert heard == ["model.py:12: UserWarning: here"]


def test_logging_works_as_before_afterwards(tmp_path):
    before = logging.Logger.callHandlers
    with listening(tmp_path):
        assert logging.Logger.callHandlers is not before

    assert logging.Logger.callHandlers is before


def test_scrub(tmp_path):
    text = f"in {tmp_path}/a/b.py and '/usr/lib/x/y.so' at 0x7f00deadbeef, either/or, https://example.org/a/b"

    assert scrub(text, tmp_path) == "in a/b.py and 'y.so' at 0x…, either/or, https://example.org/a/b"


def test_noise_is_not_kept(tmp_path):
    with listening(tmp_path, r"all is well$") as heard:
        warnings.warn("all is well", stacklevel=1)
        warnings.warn("mind the gap", stacklevel=1)

    assert heard == ["UserWarning: mind the gap"]
