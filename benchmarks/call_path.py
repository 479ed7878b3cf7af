"""Functions that `sitegenctl enqueue 42` runs, and frames between the command and its UPDATE.

Counts what is defined below `sitegenctl/`: named functions, without comprehensions, module and class bodies. The
command runs in a process of its own, with all imports. `--list` prints the functions by file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent / "sitegenctl"


def main() -> None:
    from sitegenctl.demo.servers.postgres import PrivatePostgres
    from sitegenctl.demo.servers.redis import PrivateRedis
    from tests.support.databases import create_schema
    from tests.support.world import World

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with (
            PrivateRedis(base / "redis").running() as redis,
            PrivatePostgres(base / "postgres", durable=False).running() as postgres,
        ):
            import asyncio

            asyncio.run(create_schema(postgres.url))
            (base / "sites").mkdir()
            world = World(database_url=postgres.url, redis_url=redis.url, sites_dir=base / "sites")
            world.order(42)
            measured = subprocess.run(
                [sys.executable, "-m", "benchmarks.call_path", "--measure"],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **world.environ},
            )
    report = json.loads(measured.stdout.splitlines()[-1])
    functions, frames = report["functions"], report["frames"]
    files = Counter(name.partition(":")[0] for name in functions)
    if "--list" in sys.argv:
        print(*functions, sep="\n")
    print(f"{len(functions):4} distinct functions in {len(files)} files    (to be at most 150)")
    print(f"{len(frames):4} frames from the command to the UPDATE    (to be at most 10)")
    print(*(f"       {frame}" for frame in frames), sep="\n")


def measure() -> None:
    """Run the command in this process and print what was called as JSON."""
    import asyncpg

    seen: set[CodeType] = set()
    frames: list[str] = []
    execute = asyncpg.Connection.execute

    def record(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            seen.add(frame.f_code)

    async def recorded(self: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
        if query.lstrip().startswith("UPDATE"):
            frames.extend(_frames(sys._getframe(1)))
        return await execute(self, query, *arguments, **options)

    asyncpg.Connection.execute = recorded
    threading.setprofile(record)
    sys.setprofile(record)
    from sitegenctl.cli.app import run

    code = run(["enqueue", "42"])
    sys.setprofile(None)
    functions = sorted(_name(each) for each in seen if _is_function(each))
    print()
    print(json.dumps({"functions": functions, "frames": frames}))
    sys.exit(code)


def _frames(frame: FrameType | None) -> list[str]:
    """The package's frames from the command function inwards."""
    names: list[str] = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(str(PACKAGE)):
            names.insert(0, _name(frame.f_code))
            if "/cli/commands/" in frame.f_code.co_filename and frame.f_code.co_name == "enqueue":
                return names
        frame = frame.f_back
    return names


def _is_function(code: CodeType) -> bool:
    # CO_NEWLOCALS without CO_OPTIMIZED is a class body, neither is a module.
    return bool(code.co_flags & 1) and not code.co_name.startswith("<")


def _name(code: CodeType) -> str:
    return f"{Path(code.co_filename).relative_to(PACKAGE)}:{code.co_qualname}"


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
