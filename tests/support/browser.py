"""A headless Chromium, driven over the DevTools protocol. Tests that need one are skipped where it is not installed."""

import asyncio
import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_S = 60
KEYS = {"Tab": ("\t", 9), "Enter": ("\r", 13), "Space": (" ", 32)}


class Page:
    """A tab. `events` has what the browser has reported since the last `clear`, as (method, parameters)."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self._url, self._number, self._waiting = url, 0, dict[int, Future[Any]]()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=lambda: self._loop.run_until_complete(self._listen()), daemon=True).start()
        assert self._ready.wait(DEADLINE_S), "the browser does not accept a connection"

    def command(self, method: str, **parameters: Any) -> Any:
        """Returns the result of a command of the DevTools protocol."""
        self._number += 1
        found = self._waiting[self._number] = Future[Any]()
        message = {"id": self._number, "method": method, "params": parameters}
        asyncio.run_coroutine_threadsafe(self._socket.send_json(message), self._loop).result(DEADLINE_S)
        answer = found.result(DEADLINE_S)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def value(self, script: str) -> Any:
        """Returns the value of an expression. Raises AssertionError for an exception."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """Returns the visible text of an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait(self, script: str) -> None:
        """Waits until an expression is true."""
        give_up_at = time.monotonic() + DEADLINE_S
        while not self.value(f"!!({script})"):
            assert time.monotonic() < give_up_at, f"{script} stays false: {self.value('document.body.innerText')}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        """Opens a URL and waits until its modules have run."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def point_at(self, selector: str) -> None:
        """Moves the pointer to the centre of an element, which is scrolled into view."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        )
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def type(self, text: str) -> None:
        """Types text into the element that has the focus."""
        self.command("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key of KEYS."""
        text, code = KEYS[key]
        fields = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        fields |= {"modifiers": 8 if shift else 0}
        self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
        self.command("Input.dispatchKeyEvent", type="keyUp", **fields)

    def choose_file(self, selector: str, path: Path) -> None:
        """Chooses a file as a user does in the dialog of a file input."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path, quality: int = 80) -> None:
        """Writes what is visible as a JPEG."""
        found = self.command("Page.captureScreenshot", format="jpeg", quality=quality)
        path.write_bytes(base64.b64decode(found["data"]))

    def requested(self) -> list[str]:
        """Returns the URLs that were requested since the last `clear`."""
        return [event["request"]["url"] for name, event in self.events if name == "Network.requestWillBeSent"]

    def problems(self) -> list[Any]:
        """Returns exceptions, logged errors and violations of the policy since the last `clear`, but no HTTP errors."""
        return [
            event
            for name, event in self.events
            if name == "Runtime.exceptionThrown"
            or (name == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"))
            or (name == "Log.entryAdded" and event["entry"]["source"] != "network")
        ]

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, max_msg_size=0) as self._socket:
            self._ready.set()
            async for message in self._socket:
                found = json.loads(message.data)
                if "id" in found:
                    self._waiting.pop(found["id"]).set_result(found)
                else:
                    self.events.append((found["method"], found["params"]))


@contextmanager
def browser_page(folder: Path, width: int = 1200, height: int = 800) -> Iterator[Page]:
    """Starts a browser with a profile in `folder` and yields its tab."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no browser: install chromium to run the tests of the search page")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={width},{height}"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen([program, *options, "about:blank"], stdout=log, stderr=log)
    try:
        page = Page(_address(folder, process))
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            page.command(f"{domain}.enable")
        page.command("Emulation.setFocusEmulationEnabled", enabled=True)  # no window manager gives it the focus
        yield page
    finally:
        process.terminate()
        process.wait(30)


def _address(folder: Path, process: "subprocess.Popen[bytes]") -> str:
    """Waits until the browser accepts connections, and returns the address of its tab."""
    import requests

    give_up_at = time.monotonic() + DEADLINE_S
    while True:
        log = (folder / "browser.log").read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"the browser has ended: {log}"
        assert time.monotonic() < give_up_at, f"the browser opened no tab within {DEADLINE_S} s: {log}"
        port = folder / "DevToolsActivePort"
        if port.exists() and (lines := port.read_text().split()):
            tabs = requests.get(f"http://127.0.0.1:{lines[0]}/json", timeout=DEADLINE_S).json()
            addresses = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
            if addresses:
                return str(addresses[0])
        time.sleep(0.05)
