"""The live view in a browser: access, content, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from yarl import URL

from sitegenctl.cli.app import run
from sitegenctl.web import live as web
from tests.support.browser import CHROMIUM, ReverseProxy, WebServer, chromium, gone, page_of, read_until, serving
from tests.support.servers import Certificates, free_port
from tests.support.world import World, eventually


@pytest.fixture
def orders(world: World) -> World:
    """One order that needs attention, and one in the queue."""
    world.order(42)
    world.order(43, name="Rui Lima")
    world.publish(43)
    return world


async def status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status


async def refused(url: str, **headers: str) -> int:
    """The status with which a WebSocket is refused."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
            await http.ws_connect(url, headers=headers)
        return failure.value.status


async def test_only_the_link_gives_access(world: World, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        port = server.address.rpartition(":")[2]
        static = f"{server.address}/static/js/textual.js"
        assert server.link.startswith("http://127.0.0.1:")
        assert len(server.token) >= 40

        assert await status(server.link) == 200
        assert await status(server.link, Host=f"localhost:{port}") == 200
        assert await status(f"{static}?token={server.token}") == 200
        for closed in (
            server.address,
            f"{server.address}/?token=",
            f"{server.address}/?token={server.token[:-1]}",
            f"{server.address}/?token=%ff%c3%28",
            f"{server.address}/elsewhere",
            static,
        ):
            assert await status(closed) == 403, closed
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "evil@127.0.0.1",
            "10.0.0.1",
            "",
        ):
            assert await status(server.link, Host=host) == 403, host
        assert await status(server.link, Origin="http://evil.example") == 403


async def test_websocket_needs_token_and_origin(world: World, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        port = int(server.address.rpartition(":")[2])
        assert await refused(f"{server.address}/ws") == 403
        assert await refused(f"{server.address}/ws/{server.token[:-1]}x") == 403
        for origin in ("http://evil.example", f"http://127.0.0.1:{port + 1}", f"https://127.0.0.1:{port}", "null"):
            assert await refused(server.websocket, Origin=origin) == 403, origin
        assert await refused(server.websocket, Host="evil.example", Origin="http://evil.example") == 403
        assert server.browsers() == {}


async def test_security_headers(world: World, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with aiohttp.ClientSession() as http, http.get(server.link) as answer:
            text = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert not answer.cookies
    assert "default-src 'none'; script-src 'self';" in policy
    assert f"connect-src 'self' {server.address.replace('http:', 'ws:')};" in policy
    assert "https:" not in text


@pytest.mark.parametrize("flags", [(), ("--allow-actions",)], ids=["reading", "acting"])
async def test_a_browser_sees_the_orders(orders: World, tmp_path: Path, flags: tuple[str, ...]) -> None:
    with serving(tmp_path, *flags) as server:
        async with aiohttp.ClientSession() as http, http.ws_connect(server.websocket, origin=server.address) as socket:
            text = await read_until(socket, "Padaria Ana Souza", "quit")
            assert ("READ-ONLY" in text) is not flags
            assert ("fix" in text) is bool(flags)
            (command,) = server.browsers().values()
        assert ("--read-only" in command) is not flags
        for secret in (orders.database_url, orders.redis_url, server.token):
            assert secret not in command


async def test_process_ends_with_its_browser(orders: World, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(server.websocket) as socket:
                await read_until(socket, "Padaria Ana Souza")
                assert len(server.browsers()) == 1
            await asyncio.to_thread(eventually, lambda: not server.browsers())

            # The browser is disconnected when the process quits.
            async with http.ws_connect(server.websocket) as socket:
                await read_until(socket, "Padaria Ana Souza")
                await socket.send_json(["stdin", "q"])
                async with asyncio.timeout(30):
                    async for _ in socket:
                        pass
            await asyncio.to_thread(eventually, lambda: not server.browsers())

            # A malformed message ends the session, too.
            async with http.ws_connect(server.websocket) as socket:
                await socket.send_str("nonsense")
                async with asyncio.timeout(30):
                    async for _ in socket:
                        pass
            await asyncio.to_thread(eventually, lambda: not server.browsers())
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_process_survives_the_server(orders: World, tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as server:
        async with aiohttp.ClientSession() as http, http.ws_connect(server.websocket) as socket:
            await read_until(socket, "Padaria Ana Souza")
            # Also one that is still starting.
            async with http.ws_connect(server.websocket):
                browsers = await asyncio.to_thread(eventually, server.browsers)
                began = time.monotonic()
                server.process.send_signal(number)
                code = await asyncio.to_thread(server.process.wait, 30)
                took = time.monotonic() - began
        if number is signal.SIGKILL:
            # The processes notice by themselves.
            eventually(lambda: all(map(gone, browsers)))
            return
        # A stopped service has not failed; Ctrl-C interrupts it.
        assert code == (130 if number is signal.SIGINT else 0)
        assert all(map(gone, browsers))
        assert took < 10
        assert server.log.read_text() == ("interrupted\n" if number is signal.SIGINT else "")


_DEAF = "import sys, time; print('__GANGLION__', flush=True); time.sleep(600)"


async def test_browser_limit_and_hanging_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_BROWSERS", 1)
    monkeypatch.setattr(web, "_SLOT_TIMEOUT", 3.0)
    monkeypatch.setattr(web, "_EXIT_TIMEOUT", 0.5)
    view = web.WebView([sys.executable, "-c", _DEAF], title="deaf")
    async with TestServer(await view.make_app()) as server, aiohttp.ClientSession() as http:
        address = server.make_url(f"/ws/{view.token}")
        async with http.ws_connect(address), http.ws_connect(address) as late:
            assert b"Limit of 1 browsers reached" in (await late.receive(timeout=5)).data
            assert (await late.receive(timeout=5)).data == aiohttp.WSCloseCode.TRY_AGAIN_LATER
        # The first browser and its hanging process are gone.
        async with http.ws_connect(address) as next_one:
            await next_one.send_json(["ping", "1"])
            assert (await next_one.receive(timeout=5)).data == '["pong", "1"]'


BAD_URLS = (
    *("ops.example/queue", "//ops.example/", "/queue/", "wss://ops.example/", "https://", "https://ops.example:0x/"),
    *(
        "https://op:s3cret@ops.example/",
        "https://ops.example/?a=b",
        "https://ops.example/#top",
        "https://o'ps.example/",
    ),
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--port 8765", "--port needs --web"),
        ("--host 127.0.0.1", "--host needs --web"),
        ("--allow-actions", "--allow-actions needs --web"),
        ("--web --read-only --allow-actions", "--allow-actions contradicts --read-only"),
        ("--web --allow-actions", "--allow-actions contradicts SITEGENCTL_READ_ONLY"),
        ("--web --port 65536", "--port"),
        ("--web --host=", "--host must be"),
        ("--web --host 192.0.2.1", "--host 192.0.2.1: cannot listen on this address"),
        ("--web --host a..b", "--host a..b: cannot listen on this address"),
        ("--public-url https://ops.example", "--public-url needs --web"),
        *((f"--web --public-url {url}", "--public-url must be an address such as") for url in BAD_URLS),
        ("--web --theme puce", "unknown theme 'puce'"),
    ],
)
def test_invalid_options(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    if "SITEGENCTL_READ_ONLY" in message:
        monkeypatch.setenv("SITEGENCTL_READ_ONLY", "1")
    assert run(["live", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "s3cret" not in err


def test_port_in_use(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["live", "--web", "--port", str(port)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: port {port} is in use",
        "hint: use --port N, or --port 0 for any free port",
    ]


async def test_other_machines_with_a_warning_only(world: World, tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0") as server:  # noqa: S104 - what is tested
        port = server.address.rpartition(":")[2]
        here = f"http://127.0.0.1:{port}/?token={server.token}"
        assert await status(here) == 200
        assert await status(here, Host=server.address.removeprefix("http://")) == 200
        assert await status(here, Host=f"10.1.2.3:{port}") == 200
        assert await status(here, Host=f"evil.example:{port}") == 403
        assert await status(f"http://127.0.0.1:{port}/") == 403
        assert "only the link protects it" in server.log.read_text()


#: Path; whether the proxy strips it, keeps the Host header, and ends TLS.
PROXIES = {
    "tls, path stripped": ("/queue/", True, True, True),
    "tls, path kept, host replaced": ("/queue/", False, False, True),
    "tls, no path": ("/", False, True, True),
    "plain, deep path stripped, host replaced": ("/crm/the%20queue/", True, False, False),
}


@pytest.fixture
def proxied(request: pytest.FixtureRequest, certificates: Certificates) -> ReverseProxy:
    path, strips, keeps_host, ends_tls = PROXIES[request.param]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if ends_tls else None
    if context is not None:
        context.load_cert_chain(certificates.certificate, certificates.key)
    return ReverseProxy(path=path, strips=strips, keeps_host=keeps_host, tls=context)


class OpsExample(aiohttp.abc.AbstractResolver):
    """Resolves every name to this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("proxied", PROXIES, indirect=True)
async def test_behind_a_proxy(orders: World, tmp_path: Path, proxied: ReverseProxy) -> None:
    connector = aiohttp.TCPConnector(resolver=OpsExample(), ssl=False)
    async with proxied.running(), aiohttp.ClientSession(connector=connector) as http:
        port = free_port()
        with serving(tmp_path, "--public-url", proxied.public_url, "--port", str(port)) as server:
            ours = proxied.upstream = f"http://127.0.0.1:{port}"
            origin = proxied.public_url.removesuffix(proxied.path)
            assert server.link == f"{proxied.public_url}?token={server.token}"

            async with http.get(URL(server.link, encoded=True)) as answer:
                page = await answer.text()
                assert answer.status == 200, page
                assert origin.replace("http", "ws", 1) in answer.headers["Content-Security-Policy"]
            for link in re.findall(r'(?:src|href)="([^"]+)"|url\("([^"]+)"\)', page):
                loaded = URL(urljoin(server.link, link[0] or link[1]), encoded=True)
                if loaded.scheme != "data":
                    async with http.get(loaded) as answer:
                        assert answer.status == 200, loaded

            (address,) = re.findall(r'data-session-websocket-url="([^"]+)"', page)
            assert address.startswith(proxied.public_url.replace("http", "ws", 1) + "ws/")
            websocket = URL(address + "?width=160&height=40", encoded=True)
            other_scheme = origin.replace("https:", "http:") if proxied.tls else origin.replace("http:", "https:")
            for foreign in ("https://evil.example", other_scheme, "https://ops.example", f"{origin}0", "null"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                    await http.ws_connect(websocket, origin=foreign)
                assert refusal.value.status == 403, foreign
            async with http.ws_connect(websocket, origin=origin) as connected:
                await read_until(connected, "Padaria Ana Souza", "quit")

            # The token and the name are still needed.
            assert await status(f"{ours}/?token={server.token}", Host="evil.example") == 403
            assert await status(f"{ours}{proxied.path}", Host="ops.example") == 403
        assert server.log.read_text().count("unencrypted") == (proxied.tls is None)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("proxied", list(PROXIES)[:2], indirect=True)
async def test_a_real_browser_behind_a_proxy(orders: World, tmp_path: Path, proxied: ReverseProxy) -> None:
    (tmp_path / "browser").mkdir()
    flags = ("--host-resolver-rules=MAP ops.example 127.0.0.1", "--ignore-certificate-errors")
    async with proxied.running():
        port = free_port()
        with serving(tmp_path, "--public-url", proxied.public_url, "--port", str(port)) as server:
            proxied.upstream = f"http://127.0.0.1:{port}"
            with chromium(tmp_path / "browser", *flags) as debugger:
                async with page_of(debugger) as shown:
                    # Without the slash, as people type it.
                    await shown.open(server.link.replace("/?", "?") if not proxied.strips else server.link)
                    await shown.shows(lambda text: "Padaria A" in text)
                    await shown.press("2")
                    await shown.shows(lambda text: "Padaria Rui Lima" in text and "Padaria A" not in text)
                    assert not [each for each in shown.errors if "Content Security Policy" in each], shown.errors


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://ops.example/queue/", "https://ops.example", "/queue/"),
        ("https://ops.example", "https://ops.example", "/"),
        ("https://ops.example:443/queue", "https://ops.example", "/queue/"),
        ("HTTPS://OPS.example:8443//a/b//", "https://ops.example:8443", "/a/b/"),
        ("http://[::1]:80/", "http://[::1]", "/"),
        ("https://óps.example/fila ç/{x}", "https://xn--ps-4ja.example", "/fila%20%C3%A7/%7Bx%7D/"),
    ],
)
def test_public_url_as_browsers_write_it(url: str, origin: str, path: str) -> None:
    public = web.PublicUrl.parse(url)
    assert (public.origin, public.path) == (origin, path)


def _only_ours(server: WebServer, requested: list[str]) -> bool:
    ours = (f"{server.address}/", f"{server.address.replace('http:', 'ws:')}/", "data:", "about:")
    return all(url.startswith(ours) for url in requested)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
async def test_a_real_browser(orders: World, tmp_path: Path) -> None:
    profile = tmp_path / "browser"
    profile.mkdir()
    with serving(tmp_path) as server:
        with chromium(profile) as debugger:
            await _look_around(server, debugger)
        # The browser was killed without closing the connection.
        await asyncio.to_thread(eventually, lambda: not server.browsers())


async def _look_around(server: WebServer, debugger: str) -> None:
    async with page_of(debugger) as shown:
        await shown.open(server.link)
        await shown.shows(lambda text: "Padaria A" in text)
        first = await shown.screenshot()

        # Keys work without a click.
        await shown.press("2")
        await shown.shows(lambda text: "Padaria Rui Lima" in text and "Padaria A" not in text)
        second = await shown.screenshot()

        # Click the first tab.
        row, column = await shown.place_of("Orders")
        await shown.click_at(row, column)
        await shown.shows(lambda text: "Padaria A" in text)

        # The server's folders cannot be opened.
        await shown.press("?")
        await shown.shows(lambda text: "Open the site" in text and "folder" not in text)
        await shown.press("q")
        await shown.shows(lambda text: "Open the site" not in text)

        assert _only_ours(server, shown.requested), shown.requested
        assert not [each for each in shown.errors if "Content Security Policy" in each], shown.errors
        # Screenshots are not blank, and differ.
        assert min(len(first), len(second)) > 10_000
        assert first != second
