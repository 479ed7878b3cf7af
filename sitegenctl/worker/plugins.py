"""The generator plug-in point: finding the generator by its name, and checking what it gave back.

Runs no generator and writes no file; the generation service does both.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import cast

from sitegenctl.domain.orders.generation_input import Generator, SiteFile
from sitegenctl.errors import GenerationError, UsageProblem

ENTRY_POINT_GROUP = "sitegenctl.generators"
BUILTIN = "builtin"

# What some file systems refuse in one component, or in a whole path, would only fail half-way through writing.
_MAX_COMPONENT_BYTES = 255
_MAX_PATH_BYTES = 1024


def generator_names() -> list[str]:
    """The names that ``load_generator`` knows: the built-in one and those of installed packages."""
    return sorted({BUILTIN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def load_generator(name: str | None) -> Generator:
    """The generator of that name.

    None and ``builtin`` are the built-in one, ``module:callable`` is imported, and any other name is looked up
    among the entry points of ``sitegenctl.generators``.

    Raises:
        UsageProblem: It can't be found, can't be imported or can't be called.
    """
    wanted = (name or BUILTIN).strip()
    if wanted == BUILTIN:
        from sitegenctl.worker.generator.generator import generate

        return generate
    found = _imported(wanted) if ":" in wanted else _installed(wanted)
    if not callable(found):
        raise _problem(f"generator {wanted!r} is not callable")
    return cast("Generator", found)


def checked(files: Collection[SiteFile]) -> list[SiteFile]:
    """The files of a site, in order, if each may be written into the site's folder.

    Raises:
        GenerationError: There are none, one is no ``SiteFile`` of text path and bytes, or a path is unsafe,
            appears twice or is also another file's folder.
    """
    result = _listed(files)
    if not result:
        raise GenerationError("the generator gave back no files")
    # Case-insensitive file systems would write two such files into one.
    paths = {_checked_path(file).casefold() for file in result}
    if len(paths) != len(result):
        raise GenerationError("the generator gave back the same path twice")
    for path in sorted(paths):
        parents = path.split("/")[:-1]
        if any("/".join(parents[:depth]) in paths for depth in range(1, len(parents) + 1)):
            raise GenerationError(f"the generator gave back a path inside a file: {path!r}")
    return result


def _imported(wanted: str) -> object:
    module_name, _, attributes = wanted.partition(":")
    try:
        found: object = importlib.import_module(module_name)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as exc:
        raise _problem(f"generator {wanted!r} can't be imported: {exc}") from exc
    return found


def _installed(wanted: str) -> object:
    for point in entry_points(group=ENTRY_POINT_GROUP, name=wanted):
        try:
            return point.load()
        except (ImportError, AttributeError) as exc:
            raise _problem(f"generator {wanted!r} ({point.value}) can't be imported: {exc}") from exc
    raise _problem(f"there is no generator {wanted!r}")


def _problem(message: str) -> UsageProblem:
    return UsageProblem(message, hint=f"known generators: {', '.join(generator_names())}; or module:callable")


def _listed(given: object) -> list[SiteFile]:
    """The files of what a plug-in gave back, which nothing holds to its annotations."""
    if not isinstance(given, Collection):
        raise GenerationError(f"the generator gave back {type(given).__name__} instead of a collection of files")
    for file in given:
        is_file = isinstance(file, SiteFile)
        if not is_file or not isinstance(file.path, str) or not isinstance(file.content, bytes):
            raise GenerationError("the generator gave back something that is no SiteFile of text path and bytes")
    return list(given)


def _checked_path(file: SiteFile) -> str:
    fault = _path_fault(file.path)
    if fault is not None:
        raise GenerationError(f"the generator gave back a path that {fault}: {file.path[:100]!r}")
    return file.path


def _path_fault(path: str) -> str | None:
    components = path.split("/")
    try:
        sizes = [len(component.encode()) for component in components]
    except UnicodeEncodeError:
        return "is not valid text"
    faults = {
        "is empty": not path,
        "holds a control character": any(ord(character) < 32 or ord(character) == 127 for character in path),
        "holds a backslash": "\\" in path,
        "is absolute": path.startswith("/") or path[1:2] == ":",
        "has an empty component": "" in components,
        "leads outside or nowhere": "." in components or ".." in components,
        "is too long": max(sizes) > _MAX_COMPONENT_BYTES or sum(sizes) + len(sizes) > _MAX_PATH_BYTES,
    }
    return next((fault for fault, present in faults.items() if present), None)
