"""A headless Chromium, driven by its DevTools protocol, and a process that runs ``live --web``."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tests.support.world import eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)

# The page does not expose its terminal, but the debugger can find it: xterm's public objects have a buffer and
# getSelection.
_TERMINAL = """function () {
  for (const one of this) {
    if (!Object.hasOwn(one, '_core') || typeof one.getSelection !== 'function') continue;
    const line = (_, row) => one.buffer.active.getLine(row)?.translateToString(true) ?? '';
    return [one.cols, Array.from({length: one.rows}, line)];
  }
  return [0, []];
}"""


class Page:
    """A page of the browser, with its requests and errors."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.errors: list[str] = []
        self._listening = asyncio.create_task(self._listen())

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], 30)
        del self._answers[number]
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def open(self, link: str) -> None:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=link)

    async def evaluate(self, expression: str) -> Any:
        return (await self.send("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    async def text(self) -> str:
        """Text of the terminal in the page."""
        return "\n".join((await self._terminal())[1])

    async def _terminal(self) -> tuple[int, list[str]]:
        prototype = await self.send("Runtime.evaluate", expression="Object.prototype")
        objects = await self.send("Runtime.queryObjects", prototypeObjectId=prototype["result"]["objectId"])
        answer = await self.send(
            "Runtime.callFunctionOn",
            objectId=objects["objects"]["objectId"],
            functionDeclaration=_TERMINAL,
            returnByValue=True,
        )
        await self.send("Runtime.releaseObject", objectId=objects["objects"]["objectId"])
        columns, lines = answer["result"]["value"]
        return columns, lines

    async def shows(self, condition: Callable[[str], bool], *, patience: float = 30.0) -> str:
        """Wait until the terminal's text meets the condition, and return it."""
        text = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not condition(text := await self.text()):  # noqa: ASYNC110 - the page sends no event
                    await asyncio.sleep(0.1)
        assert condition(text), (text, self.errors)
        return text

    async def press(self, key: str) -> None:
        await self.send("Input.dispatchKeyEvent", type="keyDown", text=key, key=key)
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def place_of(self, word: str) -> tuple[int, int]:
        """The row and the column of a word in the terminal."""
        for row, line in enumerate((await self.text()).split("\n")):
            if word in line:
                return row, line.index(word)
        raise AssertionError(f"{word} is not on the screen")

    async def click_at(self, row: int, column: int) -> None:
        """Click into a cell of the terminal."""
        columns, lines = await self._terminal()
        left, top, width, height = await self.evaluate(
            "(box => [box.left, box.top, box.width, box.height])"
            "(document.querySelector('.xterm-screen').getBoundingClientRect())"
        )
        x, y = left + (column + 0.5) * width / columns, top + (row + 0.5) * height / len(lines)
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def screenshot(self) -> bytes:
        return base64.b64decode((await self.send("Page.captureScreenshot", format="png"))["data"])

    def close(self) -> None:
        self._listening.cancel()

    async def _listen(self) -> None:
        async for message in self._socket:
            event = message.json()
            if (number := event.get("id")) in self._answers:
                self._answers[number].set_result(event)
            elif event.get("method") == "Network.requestWillBeSent":
                self.requested.append(event["params"]["request"]["url"])
            elif event.get("method") == "Network.webSocketCreated":
                self.requested.append(event["params"]["url"])
            elif event.get("method") == "Log.entryAdded":
                self.errors.append(event["params"]["entry"]["text"])
            elif event.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(event["params"]["exceptionDetails"]))


@contextlib.contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[str]:
    """Run a browser with one empty page, and return its debugger's address; ``folder`` becomes its profile."""
    assert CHROMIUM is not None
    ready = folder / "profile" / "DevToolsActivePort"
    log = folder / "chromium.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={ready.parent}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def port() -> str:
        assert process.poll() is None, log.read_text(errors="replace")
        return ready.read_text().partition("\n")[0] if ready.exists() else ""

    try:
        yield f"http://127.0.0.1:{eventually(port, patience=60)}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.asynccontextmanager
async def page_of(debugger: str) -> AsyncIterator[Page]:
    """The only page of the browser."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{debugger}/json/list") as answer:
            address = next(each for each in await answer.json() if each["type"] == "page")["webSocketDebuggerUrl"]
        async with http.ws_connect(address, max_msg_size=0) as socket:
            page = Page(socket)
            try:
                yield page
            finally:
                page.close()


PATIENCE = 60.0
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?>$]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[()].|[=>])", re.DOTALL)


@dataclass(frozen=True)
class WebServer:
    process: subprocess.Popen[str]
    link: str
    log: Path

    @property
    def address(self) -> str:
        return f"http://{urlsplit(self.link).netloc}"

    @property
    def token(self) -> str:
        return urlsplit(self.link).query.removeprefix("token=")

    @property
    def websocket(self) -> str:
        return f"{self.address}/ws/{self.token}?width=160&height=40"

    def browsers(self) -> dict[int, str]:
        """Command lines of its child processes by their ids."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
        return {int(pid): args for pid, parent, args in rows if int(parent) == self.process.pid}


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[WebServer]:
    """Start the server without a terminal, as systemd would; stop it afterwards."""
    log_path = folder / "web.log"
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sitegenctl", "live", "--web", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        link = process.stdout.readline()
        assert link.endswith("\n"), log_path.read_text()
        yield WebServer(process=process, link=link.rstrip("\n"), log=log_path)
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()


@dataclass(kw_only=True)
class ReverseProxy:
    """A reverse proxy for ``path``, which may end TLS, strip the path, and pass on the Host header or replace it."""

    path: str
    strips: bool
    keeps_host: bool
    tls: ssl.SSLContext | None
    upstream: str = ""
    port: int = 0

    @property
    def public_url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://ops.example:{self.port}{self.path}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/{rest:.*}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
            self.port = runner.addresses[0][1]
            async with aiohttp.ClientSession() as self._http:
                yield
        finally:
            await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        if not path.startswith(self.path.rstrip("/")):
            raise web.HTTPNotFound
        path = "/" + path.removeprefix(self.path) if self.strips else path
        names = {"Origin", *({"Host"} if self.keeps_host else ())}
        headers = {name: value for name, value in request.headers.items() if name in names}
        if request.headers.get("Upgrade") != "websocket":
            async with self._http.get(self.upstream + path, headers=headers) as answer:
                hop = {"Transfer-Encoding", "Content-Encoding", "Content-Length", "Connection"}
                kept = {name: value for name, value in answer.headers.items() if name not in hop}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        try:
            upstream = await self._http.ws_connect(self.upstream + path, headers=headers)
        except aiohttp.WSServerHandshakeError as refusal:
            return web.Response(status=refusal.status)
        downstream = web.WebSocketResponse()
        await downstream.prepare(request)
        ends = [asyncio.create_task(_pump(upstream, downstream)), asyncio.create_task(_pump(downstream, upstream))]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(upstream.close(), downstream.close())
        await asyncio.wait(ends)
        return downstream


WebSocket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


async def _pump(source: WebSocket, target: WebSocket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


async def read_until(socket: aiohttp.ClientWebSocketResponse, *wanted: str) -> str:
    """Read output, without escape sequences, until it contains all texts."""
    got = ""
    deadline = time.monotonic() + PATIENCE
    while not all(each in _ESCAPES.sub("", got) for each in wanted):
        message = await socket.receive(timeout=deadline - time.monotonic())
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), (message, _ESCAPES.sub("", got))
        if message.type is aiohttp.WSMsgType.BINARY:
            got += message.data.decode(errors="replace")
    return _ESCAPES.sub("", got)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not listed.stdout.strip() or listed.stdout.strip().startswith("Z")
