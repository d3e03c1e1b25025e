"""`python -m onnxbuild`."""

from __future__ import annotations

from onnxbuild.cli import entry

if __name__ == "__main__":
    entry()
