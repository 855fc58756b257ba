"""A real Chromium, driven through chromedriver by plain HTTP (W3C WebDriver)."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's number in WebDriver's answers
KEYS = {"ArrowLeft": "\ue012", "ArrowRight": "\ue014", "Home": "\ue011", "End": "\ue010", "Escape": "\ue00c"}


class Browser:
    """A session of Chromium."""

    def __init__(self, address: str):
        self.address = address

    def send(self, path: str, method: str = "POST", **values: Any) -> Any:
        """Send a command of WebDriver, and return the value of its answer."""
        data = json.dumps(values).encode() if method == "POST" else None
        request = urllib.request.Request(
            f"{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, address: str):
        """Open an address, and wait until it is loaded."""
        self.send("/url", url=address)

    def js(self, text: str, *arguments: Any) -> Any:
        """Return what a function body returns in the page."""
        return self.send("/execute/sync", script=text, args=list(arguments))

    def find(self, css: str) -> str:
        """Return the number of the first element that a selector matches."""
        return self.send("/element", using="css selector", value=css)[ELEMENT]

    def click(self, css: str):
        """Click on an element."""
        self.send(f"/element/{self.find(css)}/click")

    def press(self, css: str, *keys: str):
        """Press keys in an element, by the names of `KEYS` or as characters."""
        self.send(f"/element/{self.find(css)}/value", text="".join(KEYS.get(key, key) for key in keys))

    def point(self, css: str):
        """Move the pointer to the middle of an element."""
        where = {ELEMENT: self.find(css)}
        move = {"type": "pointerMove", "duration": 0, "origin": where, "x": 0, "y": 0}
        self.send("/actions", actions=[{"type": "pointer", "id": "mouse", "actions": [move]}])

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self.send("/goog/cdp/execute", cmd=command, params=parameters)

    def emulate(self, width: int, dark: bool = False, height: int = 900):
        """Show pages at a width in CSS pixels, in a light or a dark scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, to: Path) -> Path:
        """Write what is seen to a .png."""
        to.write_bytes(base64.b64decode(self.send("/screenshot", "GET")))
        return to

    def console(self) -> list[str]:
        """Return the messages of the console since the last call: errors of scripts, and what a policy refused."""
        return [entry["message"] for entry in self.send("/se/log", type="browser")]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser with an empty profile; skip the test where there is none."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("there is no chromium or no chromedriver (Debian's packages chromium and chromium-driver)")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [driver, "--port=0"], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            assert process.stdout
            started = (re.search(r"started successfully on port (\d+)", line) for line in process.stdout)
            port = next(match[1] for match in started if match)
            root = Browser(f"http://127.0.0.1:{port}")
            options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = root.send("/session", capabilities={"alwaysMatch": wanted})["sessionId"]
            browser = Browser(f"{root.address}/session/{session}")
            try:
                yield browser
            finally:
                browser.send("", "DELETE")
        finally:
            process.terminate()
