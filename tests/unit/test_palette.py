from __future__ import annotations

import re

import pytest
from hypothesis import example, given, strategies as st

from sitegenctl.domain.orders.generation import Brief
from sitegenctl.worker.generator.generator import generate
from sitegenctl.worker.generator.palette import MIN_CONTRAST, contrast, luminance, make_palette, parse_colour

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")
CHOICES = st.one_of(st.none(), COLOURS)


def style_sheet(**colours: str | None) -> str:
    brief = Brief(
        order_id=1,
        business_name="Ada",
        business_email="",
        business_phone="",
        niche="GENERAL",
        primary_city="Bath",
        state="",
        primary_service="Repairs",
        services=["Repairs"],
        **colours,
    )
    return next(file.content.decode() for file in generate(brief) if file.path == "assets/site.css")


def rules(css: str) -> list[tuple[str, dict[str, str]]]:
    plain = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    parsed = []
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", plain):
        pairs = (line.split(":", 1) for line in body.split(";") if ":" in line)
        parsed.append((selector.strip(), {name.strip(): value.strip() for name, value in pairs}))
    return parsed


def test_contrast_of_known_pairs():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)
    assert luminance("#ff0000") == pytest.approx(0.2126)


def text_pairs(palette):
    """The (name, text colour, background colour) of every text on the site."""
    for name, surface in palette.surfaces():
        for part in ("text", "muted", "link"):
            yield f"{name}.{part}", getattr(surface, part), surface.background
        yield f"{name}.button", surface.button_text, surface.button


@given(CHOICES, CHOICES, CHOICES)
@example("#fff5b8", "#f7e9d7", "#ffd1e0")
@example("#767676", "#777777", "#757575")
@example("#ffffff", "#ffffff", "#ffffff")
@example("#000000", "#000000", "#000000")
def test_every_text_has_enough_contrast(primary, secondary, accent):
    pairs = list(text_pairs(make_palette(primary, secondary, accent)))
    assert len(pairs) == 16
    too_faint = [pair for pair in pairs if contrast(pair[1], pair[2]) < MIN_CONTRAST]
    assert too_faint == []


@given(CHOICES, CHOICES, CHOICES)
def test_buttons_contrast_with_their_surroundings(primary, secondary, accent):
    for _, surface in make_palette(primary, secondary, accent).surfaces():
        assert contrast(surface.button, surface.background) >= 3


def test_readable_colours_are_kept():
    palette = make_palette("#0b4f9e", "#12263f", "#ff7a1a")
    assert palette.brand.background == "#0b4f9e"
    assert palette.paper.link == "#0b4f9e"
    assert palette.brand.button == "#ff7a1a"
    assert palette.deep.background == "#12263f"


def test_a_pale_colour_keeps_its_hue():
    link = make_palette("#fff5b8", None, None).paper.link
    red, green, blue = (int(link[start : start + 2], 16) for start in (1, 3, 5))
    assert red > green > 2 * blue


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("#AbC", "#aabbcc"),
        (" 0b4f9e ", "#0b4f9e"),
        ("#0B4F9E", "#0b4f9e"),
        ("#ffff", None),
        ("red", None),
        ("#12345g", None),
        ("#fff;}body{display:none", None),
        ("#fff\n", "#ffffff"),
        ("\uff03fff", None),
        ("#١٢٣", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_colour(typed, expected):
    assert parse_colour(typed) == expected


def test_invalid_colours_become_the_defaults():
    nonsense = "red;}body{display:none"
    assert make_palette(nonsense, nonsense, nonsense) == make_palette(None, None, None)
    assert style_sheet(primary_color=nonsense, accent_color=nonsense) == style_sheet()


def test_the_style_sheet_contains_the_palette():
    palette = make_palette("#fa0", "#123456", "#0c8")
    css = dict(rules(style_sheet(primary_color="#fa0", secondary_color="#123456", accent_color="#0c8")))
    for name, surface in palette.surfaces():
        assert css[f".{name}"] == {
            "--background": surface.background,
            "--text": surface.text,
            "--muted": surface.muted,
            "--link": surface.link,
            "--button": surface.button,
            "--button-text": surface.button_text,
        }


def test_the_style_sheet_combines_only_colours_of_one_surface():
    """So that the contrast of the palette holds for the pages."""
    used = set()
    for selector, declarations in rules(style_sheet()):
        if "--background" in declarations:
            continue
        assert not {"background", "filter", "mix-blend-mode", "opacity"} & set(declarations), selector
        text, behind = declarations.get("color"), declarations.get("background-color")
        assert text in {None, "var(--text)", "var(--muted)", "var(--link)", "var(--button-text)"}, selector
        assert behind in {None, "transparent", "var(--background)", "var(--button)"}, selector
        assert (text == "var(--button-text)") == (behind == "var(--button)"), selector
        if behind in {"transparent", "var(--background)"}:
            assert text == "var(--text)", selector
        used.update({text, behind})
    assert {"var(--text)", "var(--muted)", "var(--link)", "var(--button)", "var(--background)"} <= used
