from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, strategies as st

from sitegenctl.config.file import with_chosen, with_context
from sitegenctl.errors import Refused, UsageProblem

FILE = """# ours, by hand
context = "shop"   # not the other

[live]
theme = "light"

# the shop
[contexts.shop]
database_url = "postgresql://shop"  # read-only user

# the old one
[contexts."old shop"]
redis_url = 'redis://old'
[contexts."old shop".more]
x = 1
"""

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


def test_new_context_is_appended() -> None:
    made = with_context(FILE, "new", {"redis_url": "redis://new", "production": True})
    assert made == FILE + '\n[contexts.new]\nredis_url = "redis://new"\nproduction = true\n'


def test_first_context_is_selected() -> None:
    made = with_context("", "a b", {"redis_password_command": ["pass", "show", "x"]})
    assert tomllib.loads(made) == {
        "context": "a b",
        "contexts": {"a b": {"redis_password_command": ["pass", "show", "x"]}},
    }
    assert made.startswith("# ")


def test_existing_context_is_replaced_only_on_request() -> None:
    with pytest.raises(Refused, match="context shop already exists"):
        with_context(FILE, "shop", {})
    made = with_context(FILE, "shop", {"redis_url": "redis://new"}, replace=True)
    assert tomllib.loads(made)["contexts"]["shop"] == {"redis_url": "redis://new"}
    for kept in ("# ours, by hand", "# not the other", "# the shop", '# the old one\n[contexts."old shop"]'):
        assert kept in made


def test_selecting_a_context_changes_nothing_else() -> None:
    assert with_chosen(FILE, "old shop") == FILE.replace('"shop"   #', '"old shop"   #')
    without = FILE.replace('context = "shop"   # not the other\n', "")
    assert with_chosen(without, "shop") == without.replace("# ours, by hand\n", '# ours, by hand\ncontext = "shop"\n')


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[contexts]\nshop = { grace = '1m' }\n", "shop"),
        ("[contexts]\nshop = { grace = '1m' }\n", "new"),
        ('[contexts.shop]\nnote = """\n[contexts.fake]\n"""\n', "shop"),
        ('[contexts."old".more]\nx = 1\n', "old"),
        ("contexts.shop.grace = '1m'\n", "shop"),
        ('context = """\nshop"""\n', "other"),
    ],
)
def test_unusual_layouts_are_edited(text: str, name: str) -> None:
    made = with_context(text, name, {"grace": "2m"}, replace=True)
    assert tomllib.loads(made)["contexts"][name] == {"grace": "2m"}
    assert tomllib.loads(with_chosen(made, name))["context"] == name


@pytest.mark.parametrize(("text", "name"), [("contexts.shop.grace = '1m'\n", "new"), ("contexts = 3\n", "new")])
def test_file_that_cannot_be_edited_is_refused(text: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        with_context(text, name, {"grace": "2m"}, replace=True)
    assert caught.value.hint == "edit the file"


def test_invalid_toml_is_reported() -> None:
    with pytest.raises(UsageProblem, match="not valid TOML"):
        with_context("= x", "new", {})


@given(
    TEXTS, st.dictionaries(st.sampled_from(["database_url", "redis_url", "sites_dir"]), TEXTS | st.just("\x7f\n\t\x00"))
)
def test_any_name_and_value_are_read_back(name: str, values: dict[str, str]) -> None:
    made = with_context(FILE.replace("old shop", "very old shop"), name, values, replace=True)
    assert tomllib.loads(made)["contexts"][name] == values
    assert tomllib.loads(with_chosen(made, name))["context"] == name
