"""A built model as a reviewer sees it: the facts that are said of it, and the lock file that holds what is expected.

Pure but for reading and writing lock files. Knows no store and no stage, and builds nothing: facts are made of a report.
"""

from __future__ import annotations

__all__ = ["canary", "comparing", "drift", "facts", "files", "lockfile", "revisions", "sides"]
