"""A headless Chromium that tests look at pages with: over a pipe, as its developer tools do."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no chromium here"
HIGHEST = 6000  # pixels of a picture

# How far the page and each element in it reach beyond the window to the right, and which cards something sticks out of: what
# scrolls by itself, or is cut off or hidden, reaches nowhere.
OVERFLOW = """(() => {
  document.querySelectorAll('details').forEach(one => one.open = true);
  const wide = document.documentElement.clientWidth;
  const held = one => {
    for (let up = one.parentElement; up; up = up.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  const right = one => one.getBoundingClientRect().right;
  const out = [...document.body.querySelectorAll('*')].filter(
    one => one.getBoundingClientRect().width > 0 && right(one) > Math.min(
      wide, ...[one.parentElement.closest('.card')].filter(card => card).map(right)) + 1 && !held(one));
  return {page: document.documentElement.scrollWidth - wide,
    elements: out.slice(0, 5).map(one => one.tagName + ' ' + (one.className.baseVal ?? one.className) + ' '
      + one.textContent.slice(0, 40))};
})()"""


class Seen(NamedTuple):
    """What a page did when it was opened: what it asked for beside itself, said on the console, and did not fit."""

    requests: list[str]
    console: list[str]
    overflow: dict[str, Any]
    background: str
    text: str


class Chromium:
    """A browser; close it."""

    def __init__(self, profile: Path) -> None:
        assert COMMAND is not None
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        flags += ["--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads descriptor 3 and writes 4; a shell puts ours there.
        line = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, COMMAND, *flags, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._rest, self._events = 0, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Ask for something, and wait for the answer."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": arguments}
        if getattr(self, "_session", ""):
            asked["sessionId"] = self._session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while (said := self._next()).get("id") != self._number:
            self._events.append(said)
        assert "error" not in said, (method, said)
        return said["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 16)
            assert more, "the browser is gone"
            self._rest += more
        said, _, self._rest = self._rest.partition(b"\0")
        return json.loads(said)

    def open(self, page: Path, width: int, scheme: str, picture: Path | None = None) -> Seen:
        """Show a page in a window of `width` pixels, in the "light" or the "dark" scheme, and say what it did."""
        self._events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        address = page.absolute().as_uri()
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())
        if picture is not None:
            self._picture(picture, width)
        overflow = self.evaluate(OVERFLOW)
        said = [event["params"] for event in self._events if event["method"] in (
            "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")]  # fmt: skip
        asked = [event["params"]["request"]["url"] for event in self._events
                 if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
        background = self.evaluate("getComputedStyle(document.body).backgroundColor")
        text = self.evaluate("document.body.innerText")
        asked.remove(address)
        return Seen(asked, [json.dumps(one) for one in said], overflow, background, text)

    def evaluate(self, code: str) -> Any:
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _picture(self, path: Path, width: int) -> None:
        high = min(self.evaluate("document.documentElement.scrollHeight"), HIGHEST)
        clip = {"x": 0, "y": 0, "width": width, "height": high, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
