"""Print the size and shape of the code: `python -m benchmarks.structure [FOLDER]`.

Lines of Python in the package and the tests, the packages with the imports between them, cycles and levels, the share
of test lines inside test functions, and functions with many parameters. It reads the sources and runs nothing.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

MAX_PARAMETERS = 9


def main(folder: Path) -> None:
    modules = {path: ast.parse(path.read_text()) for path in sorted(folder.glob("sitegenctl/**/*.py"))}
    tests = {path: ast.parse(path.read_text()) for path in sorted(folder.glob("tests/**/*.py"))}
    print(f"package: {len(modules)} modules, {lines(modules)} lines")
    inside = sum(length(each) for tree in tests.values() for each in functions(tree) if each.name.startswith("test_"))
    print(f"tests: {len(tests)} modules, {lines(tests)} lines, {inside / lines(tests):.0%} inside test functions")
    graph = imports_between_packages(folder, modules)
    levels = level_of_each(graph)
    print(
        f"packages: {len(graph)}, imports between them: {sum(map(len, graph.values()))}, levels: {levels or 'a cycle'}"
    )
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


def imports_between_packages(folder: Path, modules: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Return the packages that each package imports; imports for type checking count."""
    names = {".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__") for path in modules}
    packages: Counter[tuple[str, str]] = Counter()
    graph: dict[str, set[str]] = {}
    for path, tree in modules.items():
        here = ".".join(path.relative_to(folder).parent.parts)
        graph.setdefault(here, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sitegenctl"):
                for alias in node.names:
                    target = f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else node.module
                    package = target if is_package(folder, target) else target.rpartition(".")[0]
                    if package != here:
                        packages[here, package] += 1
                        graph[here].add(package)
    return graph


def is_package(folder: Path, name: str) -> bool:
    return (folder / name.replace(".", "/") / "__init__.py").exists()


def level_of_each(graph: dict[str, set[str]]) -> int | None:
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
