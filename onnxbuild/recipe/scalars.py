"""Plain YAML scalars by the core schema of YAML 1.2 (section 10.3.2), within what JSON can hold."""

from __future__ import annotations

import math
import re
from typing import Any

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")


def plain(text: str) -> tuple[Any, str]:
    """A plain scalar's value by the YAML 1.2 core schema, and what is wrong with it ("" where nothing is)."""
    if text in _NULL:
        return None, ""
    if text in _BOOL:
        return _BOOL[text], ""
    return _number(text) if text[0] in "+-.0123456789" else (text, "")


def _number(text: str) -> tuple[Any, str]:
    shown = text if len(text) <= 24 else text[:20] + "…"
    if _INT.fullmatch(text):
        # Python refuses thousands of digits with an exception of its own.
        value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= 100 else 1 << 64
        return (value, "") if -(1 << 63) <= value < 1 << 64 else (0, f"the integer {shown} does not fit 64 bits")
    if _FLOAT.fullmatch(text):
        number = float(text)
        return (number, "") if math.isfinite(number) else (0.0, f"the number {shown} is too large")
    return (0.0, f"{text} is not a finite number") if _NOT_FINITE.fullmatch(text) else (text, "")
