"""The generator plug-ins: finding a generator by its name, and validating the files that it returns."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from importlib.metadata import entry_points
from operator import attrgetter
from typing import cast

from sitegenctl.domain.orders.generation import Generator, SiteFile
from sitegenctl.errors import GenerationError, UsageProblem

ENTRY_POINT_GROUP = "sitegenctl.generators"
BUILTIN = "builtin"

# Limits of common file systems: longer paths would fail in the middle of writing.
_MAX_COMPONENT_BYTES = 255
_MAX_PATH_BYTES = 1024


def generator_names() -> list[str]:
    """List the names that ``load_generator`` accepts: the built-in generator and those of installed packages."""
    return sorted({BUILTIN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def load_generator(name: str | None) -> Generator:
    """Return the generator of this name.

    None and ``builtin`` are the built-in one, ``module:callable`` is imported, and any other name is an entry point of
    ``sitegenctl.generators``.

    Raises ``UsageProblem`` if it does not exist, cannot be imported or is not callable.
    """
    name = (name or BUILTIN).strip()
    if name == BUILTIN:
        from sitegenctl.worker.generator.generator import generate

        return generate
    points = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if ":" not in name and not points:
        raise _problem(f"no generator {name!r} is installed")
    try:
        if ":" in name:
            module, _, attributes = name.partition(":")
            generator = attrgetter(attributes)(importlib.import_module(module))
        else:
            generator = points[0].load()
    except (ImportError, AttributeError, ValueError, TypeError) as exc:
        raise _problem(f"generator {name!r} cannot be imported: {exc}") from exc
    if not callable(generator):
        raise _problem(f"generator {name!r} is not callable")
    return cast("Generator", generator)


def checked(files: Collection[SiteFile]) -> list[SiteFile]:
    """Return the files of a site, in order, if they can be written into the site's folder.

    Raises ``GenerationError`` if there are none, if one is not a ``SiteFile`` of text path and bytes, or if a path is
    unsafe, appears twice or is also the folder of another file.
    """
    # The annotations of a plug-in are not enforced.
    if not isinstance(files, Collection):
        raise GenerationError(f"the generator returned {type(files).__name__} instead of a collection of files")
    for file in files:
        is_file = isinstance(file, SiteFile)
        if not is_file or not isinstance(file.path, str) or not isinstance(file.content, bytes):
            raise GenerationError("the generator returned an object that is not a SiteFile of text path and bytes")
        fault = _path_fault(file.path)
        if fault is not None:
            raise GenerationError(f"the generator returned a path that {fault}: {file.path[:100]!r}")
    if not files:
        raise GenerationError("the generator returned no files")
    # Case-insensitive file systems would write two such files into one.
    paths = {file.path.casefold() for file in files}
    if len(paths) != len(files):
        raise GenerationError("the generator returned the same path twice")
    for path in sorted(paths):
        parents = path.split("/")[:-1]
        if any("/".join(parents[:depth]) in paths for depth in range(1, len(parents) + 1)):
            raise GenerationError(f"the generator returned a path inside a file: {path!r}")
    return list(files)


def _problem(message: str) -> UsageProblem:
    return UsageProblem(message, hint=f"use one of {', '.join(generator_names())}, or module:callable")


def _path_fault(path: str) -> str | None:
    components = path.split("/")
    try:
        sizes = [len(component.encode()) for component in components]
    except UnicodeEncodeError:
        return "is not valid text"
    faults = {
        "is empty": not path,
        "contains a control character": any(ord(character) < 32 or ord(character) == 127 for character in path),
        "contains a backslash": "\\" in path,
        "is absolute": path.startswith("/") or path[1:2] == ":",
        "has an empty component": "" in components,
        "leads outside the folder": "." in components or ".." in components,
        "is too long": max(sizes) > _MAX_COMPONENT_BYTES or sum(sizes) + len(sizes) > _MAX_PATH_BYTES,
    }
    return next((fault for fault, is_present in faults.items() if is_present), None)
