"""How much memory is free, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path


def available() -> int:
    """Bytes that can be used without swapping: the machine's, or the control group's where it allows less."""
    return min([_of_machine(), *_of_groups()])


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    try:  # macOS says only how much is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 8 << 30


def _of_groups() -> list[int]:
    """What the control groups that this process is in still allow, of either version."""
    found = []
    for folder in _group_folders():
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                most = int((folder / limit).read_text(encoding="ascii"))
                now = int((folder / used).read_text(encoding="ascii"))
            except (OSError, ValueError):  # not this version, or "max"
                continue
            found.append(max(most - now + _reclaimable(folder), 0))
    return found


def _reclaimable(folder: Path) -> int:
    """File pages count as used there, and are given back on demand."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        facts = {name: int(value) for name, value in (line.split() for line in lines)}
    except (OSError, ValueError):
        return 0
    return facts.get("inactive_file", facts.get("total_inactive_file", 0))


def _group_folders() -> list[Path]:
    """The folders of this process's control groups and of those above them, version 2's and version 1's of memory."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    folders = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" or "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
            own = root / path.lstrip("/")
            folders += [own, *(above for above in own.parents if above.is_relative_to(root))]
    return folders
