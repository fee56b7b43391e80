"""Debian's headless Chromium, driven by the DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
DESKTOP, PHONE = (1280, 900), (360, 740)


class Browser:
    """One page of a headless Chromium, driven by the DevTools protocol: keys and widths are the browser's own."""

    def __init__(self, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Chromium wants its pipes at descriptors 3 and 4, which may be taken here.
        command = (
            f"exec 8<&{to_read} 9>&{to_write}; exec 3<&8 4>&9; "
            'exec "$0" --headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars '
            "--disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe "
            f'--user-data-dir="{profile}"'
        )
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, str(CHROMIUM)], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._rest, self._id, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        message: dict[str, Any] = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], 30)[0]:
                raise RuntimeError("chromium does not answer")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise RuntimeError("chromium has gone")
            self._rest += piece
        head, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(head)
        return found

    def open(self, url: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False, script: bool = True) -> None:
        """Loads ``url`` anew and waits until it is there."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0] < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, motion])
        self.call("Page.navigate", url="about:blank")  # the same address with another fragment would load nothing
        self.events.clear()
        loader = self.call("Page.navigate", url=url)["loaderId"]
        wanted = {"loaderId": loader, "name": "load"}
        while not any(event.get("params", {}) | wanted == event.get("params") for event in self.events):
            self.events.append(self._next())

    def ask(self, expression: str) -> Any:
        """The value of ``expression`` in the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def key(self, name: str) -> None:
        """Presses a key."""
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, " ": 32}[name]
        text = {"Enter": "\r", " ": " "}.get(name, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=name, code="Space" if name == " " else name, windowsVirtualKeyCode=code, text=text,
            )  # fmt: skip

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def complaints(self) -> list[str]:
        """What the browser found wrong: errors, refused content, exceptions, and every address but the page's."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown" or method == "Runtime.consoleAPICalled":
                found.append(json.dumps(params)[:300])
            elif method == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif method == "Network.requestWillBeSent" and params["type"] != "Document":
                found.append(params["request"]["url"])
        return found

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(done["data"]))

    def close(self) -> None:
        try:
            self._session = ""
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
