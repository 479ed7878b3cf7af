"""Print the size and shape of the code: `python -m benchmarks.structure [FOLDER]`.

Lines of Python in the package and the tests, the packages with the imports between them, cycles and levels, the share
of test lines inside test functions, and functions with many parameters. It reads the sources and runs nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

MAX_PARAMETERS = 9


def main(folder: Path) -> None:
    modules = {path: ast.parse(path.read_text()) for path in sorted(folder.glob("sitegenctl/**/*.py"))}
    tests = {path: ast.parse(path.read_text()) for path in sorted(folder.glob("tests/**/*.py"))}
    print(f"package: {len(modules)} modules, {lines(modules)} lines")
    inside = sum(length(each) for tree in tests.values() for each in functions(tree) if each.name.startswith("test_"))
    print(f"tests: {len(tests)} modules, {lines(tests)} lines, {inside / lines(tests):.0%} inside test functions")
    for what, unit in (("modules", module_of), ("packages", package_of)):
        graph = imports_between(folder, modules, unit)
        count = sum(map(len, graph.values()))
        print(f"{what}: {len(graph)}, imports between them: {count}, levels: {levels_of(graph) or 'a cycle'}")
    for package, imported in sorted(graph.items()):
        count = len(list((folder / package.replace(".", "/")).glob("*.py"))) or 1
        print(f"  {package:32} {count:3} modules, imports {len(imported)}")
    many = [
        f"{path.relative_to(folder)}:{each.lineno} {each.name} ({parameters(each)})"
        for path, tree in modules.items()
        for each in functions(tree)
        if parameters(each) > MAX_PARAMETERS
    ]
    print(f"functions with more than {MAX_PARAMETERS} parameters: {len(many)}", *many, sep="\n  ")


def lines(files: Iterable[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in files)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    return sum(each.arg not in ("self", "cls") for each in (*given.posonlyargs, *given.args, *given.kwonlyargs))


def imports_between(
    folder: Path, modules: dict[Path, ast.Module], unit: Callable[[Path, Path], str]
) -> dict[str, set[str]]:
    """Return the units that each unit imports, counting imports for type checking."""
    names = {module_of(folder, path) for path in modules}
    graph: dict[str, set[str]] = {}
    for path, tree in modules.items():
        here = unit(folder, path)
        graph.setdefault(here, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sitegenctl"):
                for alias in node.names:
                    target = f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else node.module
                    imported = unit(folder, folder / f"{target.replace('.', '/')}.py")
                    if imported != here:
                        graph[here].add(imported)
    return graph


def module_of(folder: Path, path: Path) -> str:
    return ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def package_of(folder: Path, path: Path) -> str:
    """Return the package of a module; a module at the top of the house stands for itself."""
    if path.with_suffix("").is_dir() or path.parent.name == "sitegenctl":
        return module_of(folder, path)
    return module_of(folder, path.parent)


def levels_of(graph: dict[str, set[str]]) -> int | None:
    """Return the number of levels, or None where packages import each other in a cycle."""
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        print("cycle:", " -> ".join(error.args[1]))
        return None
    levels = 0
    while sorter.is_active():
        sorter.done(*sorter.get_ready())
        levels += 1
    return levels


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
