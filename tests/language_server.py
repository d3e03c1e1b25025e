"""A client of a YAML language server, as an editor is one: documents in, diagnostics, completions and hovers out.

The server is a program of node (see `tests/web`), spoken to over its stdin and stdout in the Language Server Protocol, 3.17.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SERVER = Path(__file__).parent / "web/node_modules/yaml-language-server/bin/yaml-language-server"
WAIT = 60  # seconds for an answer
MISSING = (
    "node is not on the PATH"
    if shutil.which("node") is None
    else "yaml-language-server is not installed: npm ci --prefix tests/web"
    if not SERVER.exists()
    else ""
)
# What editors set, less the catalogue that the server would ask the network for.
SETTINGS = {"yaml": {"schemaStore": {"enable": False}, "validate": True, "hover": True, "completion": True}}


class Server:
    """A running server with one folder open. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["node", str(SERVER), "--stdio"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._buffer, self._number = b"", 0
        self._folder = folder
        self.diagnostics: dict[str, list[Any]] = {}  # by the document's address, as they were last published
        self.ask(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": folder.as_uri(),
                "workspaceFolders": [{"uri": folder.as_uri(), "name": folder.name}],
                "capabilities": {
                    "workspace": {"configuration": True},
                    "textDocument": {"completion": {"completionItem": {"documentationFormat": ["markdown"]}}},
                },
            },
        )
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def open(self, name: str, text: str) -> list[Any]:
        """Open a document of the folder and give the diagnostics that the server publishes of it."""
        address = self._address(name)
        assert address not in self.diagnostics, "it is open: give a document another name"
        document = {"uri": address, "languageId": "yaml", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        end = time.monotonic() + WAIT
        while address not in self.diagnostics:
            self._handle(self._receive(end))
        return self.diagnostics[address]

    def complete(self, name: str, line: int, character: int) -> dict[str, Any]:
        """What can stand at a place, counted from 0: completion items by label."""
        found = self._at("textDocument/completion", name, line, character)
        return {item["label"]: item for item in (found or {}).get("items", [])}

    def hover(self, name: str, line: int, character: int) -> str:
        """What is shown of a place."""
        found = self._at("textDocument/hover", name, line, character)
        return "" if not found else str(found["contents"]["value"])

    def ask(self, method: str, parameters: Any) -> Any:
        """The result of a request."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": parameters})
        end = time.monotonic() + WAIT
        while True:
            said = self._receive(end)
            if said.get("id") == self._number and "method" not in said:
                assert "error" not in said, said
                return said["result"]
            self._handle(said)

    def _at(self, method: str, name: str, line: int, character: int) -> Any:
        position = {"line": line, "character": character}
        return self.ask(method, {"textDocument": {"uri": self._address(name)}, "position": position})

    def _address(self, name: str) -> str:
        return (self._folder / name).as_uri()

    def _handle(self, said: dict[str, Any]) -> None:
        """Keep diagnostics; answer what the server asks."""
        if said.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[said["params"]["uri"]] = said["params"]["diagnostics"]
        elif said.get("method") == "workspace/configuration":
            sections = [SETTINGS.get(item["section"], {}) for item in said["params"]["items"]]
            self._send({"id": said["id"], "result": sections})
        elif "id" in said and "method" in said:
            self._send({"id": said["id"], "result": None})

    def _tell(self, method: str, parameters: Any) -> None:
        self._send({"method": method, "params": parameters})

    def _send(self, said: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **said}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self, end: float) -> dict[str, Any]:
        while True:
            head, between, rest = self._buffer.partition(b"\r\n\r\n")
            size = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]) if between else 0
            if between and len(rest) >= size:
                self._buffer = rest[size:]
                said: dict[str, Any] = json.loads(rest[:size])
                return said
            assert self._process.stdout is not None
            ready, _, _ = select.select([self._process.stdout], [], [], max(end - time.monotonic(), 0))
            chunk = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            assert chunk, "the language server said nothing more"
            self._buffer += chunk
