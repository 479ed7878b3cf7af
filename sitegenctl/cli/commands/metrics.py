"""``metrics``: metrics for Prometheus, once or served."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output, examples, option, service
from sitegenctl.errors import UsageProblem
from sitegenctl.render.output import Report, degraded, write
from sitegenctl.streams import use_utf8

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.statistics.metrics import Measurement


_ADDRESS = re.compile(r"(?:(?:\[([0-9a-f:.]+)\]|([^\s:/\[\]]*)):)?([0-9]{1,5})", re.IGNORECASE)


@examples(("metrics", "Print the metrics once"), ("metrics --listen :9100", "Serve them to Prometheus"))
@service(lambda options: options["listen"] is not None)
def metrics(
    call: Invocation,
    textfile: Annotated[
        str | None, option("--textfile", metavar="FILE", help="Write a file for node_exporter's textfile collector.")
    ] = None,
    listen: Annotated[
        str | None, option("--listen", metavar="[HOST:]PORT", help="Serve scrapes (default host 127.0.0.1).")
    ] = None,
) -> int:
    """Print or serve metrics for Prometheus."""
    from sitegenctl.config.atomic_write import output_file

    if textfile is not None and listen is not None:
        raise UsageProblem("--textfile and --listen are mutually exclusive")
    if listen is not None and call.output is not Output.TABLE:
        raise UsageProblem(f"--listen serves Prometheus' own format, not {call.output}")
    target = output_file("--textfile", textfile) if textfile is not None else None
    if target is not None and target.suffix != ".prom":
        raise UsageProblem(f"{target}: node_exporter reads only files that end in .prom")
    # Without its extra it fails here, before it asks for settings.
    import sitegenctl.render.metrics  # noqa: F401

    settings = call.settings()
    settings.require_url("database")
    settings.require_url("redis")
    if listen is not None:
        return _serve(call, settings, listen)
    return _once(call, settings, target)


def _once(call: Invocation, settings: Settings, textfile: Path | None) -> int:
    from sitegenctl import __version__
    from sitegenctl.config.atomic_write import write_whole
    from sitegenctl.render.metrics import METRIC_COLUMNS, exposition, metric_rows
    from sitegenctl.session import backend_class

    if call.output is Output.TABLE:
        use_utf8()  # as Prometheus' format is
    measurement = signals.run(_measure(call, settings))
    text = exposition(measurement, context=settings.context, version=__version__)
    if textfile is not None:
        write_whole(textfile, text)
    rows = metric_rows(measurement, context=settings.context, version=__version__)
    report = Report(
        command=call.command,
        data={"metrics": rows, **({"textfile": str(textfile)} if textfile is not None else {})},
        rows=rows,
        columns=METRIC_COLUMNS,
        # Print nothing: cron would mail it.
        text=lambda: text if textfile is None else "",
        unanswered=measurement.unanswered,
        hints=measurement.overview.snapshot.hints,
    )
    texts = backend_class(settings.backend)(settings).texts
    return write(degraded(report, texts, selector=settings.selector), call.output)


async def _measure(call: Invocation, settings: Settings) -> Measurement:
    from sitegenctl.operations.overview import measure
    from sitegenctl.session import open_session

    async with open_session(settings, call.command) as session:
        return await measure(session)


def _serve(call: Invocation, settings: Settings, listen: str) -> int:
    from sitegenctl import __version__
    from sitegenctl.cli.metrics_server import start_server
    from sitegenctl.render.metrics import Collector, registry

    one_at_a_time = threading.Lock()

    def measure() -> Measurement:
        with one_at_a_time:
            return asyncio.run(_measure(call, settings))

    collector = Collector(measure, context=settings.context, version=__version__)
    host, port = _read_address(listen)
    try:
        server = start_server(host, port, registry(collector))
    except UnicodeError as exc:
        raise UsageProblem(f"--listen {host}:{port}: not a valid name of a host") from exc
    except OSError as exc:
        raise UsageProblem(f"--listen {host}:{port}: {exc.strerror or exc}") from exc
    address = ipaddress.ip_address(str(server.server_address[0]).partition("%")[0])
    shown = f"[{address}]" if address.version == 6 else str(address)

    async def wait() -> int:
        # Signals may end the command as soon as it has printed: the loop must be complete by then.
        print(f"http://{shown}:{server.server_port}/metrics", flush=True)
        if not address.is_loopback:
            print("warning: other machines can read the metrics, unencrypted", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
        return 0

    return signals.run(wait())


def _read_address(text: str) -> tuple[str, int]:
    """Read ``9187``, ``:9187``, ``HOST:9187`` or ``[::1]:9187``. Raises ``UsageProblem``."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise UsageProblem(f"--listen {text}: not an address such as 9187 or 127.0.0.1:9187")
    return match[1] or match[2] or "127.0.0.1", int(match[3])
