from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType

import pytest

from sitegenctl.domain.orders.generation import SiteFile
from sitegenctl.errors import GenerationError, UsageProblem
from sitegenctl.worker import plugins
from sitegenctl.worker.generator.generator import generate
from sitegenctl.worker.plugins import checked, generator_names, load_generator


@pytest.fixture
def plugin_module(monkeypatch):
    module = ModuleType("a_site_plugin")

    class Sites:
        @staticmethod
        def make(brief):
            return [SiteFile(path="index.html", content=brief.encode())]

    module.Sites = Sites
    module.make = Sites.make
    module.number = 42
    monkeypatch.setitem(sys.modules, "a_site_plugin", module)
    return module


@pytest.fixture
def installed(monkeypatch, plugin_module):
    """Entry points of an installed plug-in package, and one whose module is missing."""
    group = plugins.ENTRY_POINT_GROUP
    points = importlib.metadata.EntryPoints(
        [
            importlib.metadata.EntryPoint(name="fancy", value="a_site_plugin:make", group=group),
            importlib.metadata.EntryPoint(name="broken", value="gone_for_good:make", group=group),
            importlib.metadata.EntryPoint(name="number", value="a_site_plugin:number", group=group),
        ]
    )
    monkeypatch.setattr(plugins, "entry_points", lambda **wanted: points.select(**wanted))
    return plugin_module


def file(path, content=b"x"):
    return SiteFile(path=path, content=content)


@pytest.mark.parametrize("name", [None, "", "builtin", " builtin "])
def test_the_built_in_generator_is_the_default(name):
    assert load_generator(name) is generate


def test_the_built_in_generator_is_an_entry_point():
    assert plugins.BUILTIN in {point.name for point in importlib.metadata.entry_points(group=plugins.ENTRY_POINT_GROUP)}


def test_a_callable_is_imported_by_module_and_name(plugin_module):
    assert load_generator("a_site_plugin:make") is plugin_module.make
    assert load_generator("a_site_plugin:Sites.make") is plugin_module.Sites.make


def test_an_installed_generator_is_found_by_its_name(installed):
    assert load_generator("fancy") is installed.make


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module_anywhere:make", "cannot be imported"),
        ("a_site_plugin:absent", "cannot be imported"),
        ("a_site_plugin:", "cannot be imported"),
        (":make", "cannot be imported"),
        ("..relative:make", "cannot be imported"),
        ("a_site_plugin:number", "not callable"),
        ("unheard-of", "no generator"),
        ("broken", "cannot be imported"),
        ("number", "not callable"),
    ],
)
def test_an_invalid_generator_is_refused_with_the_valid_names(installed, name, reason):
    with pytest.raises(UsageProblem, match=reason) as caught:
        load_generator(name)
    assert name in caught.value.message
    assert "builtin, fancy" in caught.value.hint.replace("broken, ", "")


def test_the_known_names_include_installed_ones(installed):
    assert generator_names() == ["broken", "builtin", "fancy", "number"]


def test_valid_files_are_returned_in_order():
    files = [file("index.html"), file("services/a.html", b""), file("assets/.well-known/ü.txt")]
    assert checked(tuple(files)) == files


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("C:/windows", "is absolute"),
        ("../index.html", "leads outside"),
        ("a/../../b", "leads outside"),
        ("./index.html", "leads outside"),
        ("..", "leads outside"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("a\\b", "backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\udc80", "not valid text"),
        ("a" * 256, "too long"),
        ("/".join(["abcdefgh"] * 120), "too long"),
    ],
)
def test_unsafe_paths_are_refused(path, reason):
    with pytest.raises(GenerationError, match=reason):
        checked([file("index.html"), file(path)])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "no files"),
        ([file("index.html"), file("index.html", b"y")], "twice"),
        ([file("index.html"), file("INDEX.html")], "twice"),
        ([file("a"), file("a/b.html")], "inside a file"),
        (None, "NoneType"),
        (iter([file("a")]), "instead of a collection"),
        ("index.html", "not a SiteFile"),
        ([("index.html", b"x")], "not a SiteFile"),
        ([file("index.html", "text")], "not a SiteFile"),
        ([file(7)], "not a SiteFile"),
    ],
)
def test_invalid_collections_are_refused(files, reason):
    with pytest.raises(GenerationError, match=reason):
        checked(files)
