"""The seal on what is written into the store: the SHA-256 of the file's place and content, a newline, the content.

Neither a flipped bit, nor half a file, nor a whole one from elsewhere passes for what was written there. Light to import.
"""

from __future__ import annotations

import hashlib
import os


class DamagedError(Exception):
    """A sealed file isn't what was written there."""


def sealed(place: str, body: bytes) -> list[bytes]:
    """A file's content in pieces; `place` is what the file is called within the store."""
    return [_seal(place, body), b"\n", body]


def unsealed(place: str, content: bytes) -> bytes:
    """The body of a file's content. Raises DamagedError."""
    seal, _, body = content.partition(b"\n")
    if seal != _seal(place, body):
        raise DamagedError(place)
    return body


def key_file() -> str:
    """Where the key lies by which a user's own word is known; no absolute path where there is no place for one."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # may stay a ~
    return os.path.join(base, "onnxbuild", "owner")


def signed(text: bytes) -> str:
    """A keyed hash, which nobody but the user can make; "" where there is no key. Makes none."""
    try:
        with open(key_file(), "rb") as file:
            key = file.read(64)
    except OSError:
        return ""
    return hashlib.blake2b(text, key=key, digest_size=32).hexdigest() if key else ""


def _seal(place: str, body: bytes) -> bytes:
    digest = hashlib.sha256(place.encode(errors="surrogateescape"))
    digest.update(b"\n")
    digest.update(body)
    return digest.hexdigest().encode()
