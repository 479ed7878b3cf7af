"""The colours of a site: those the customer chose, adjusted where text would be hard to read.

Every text reaches ``MIN_CONTRAST`` on its background, whatever was chosen. The style sheet decides where each surface
is used and names no colour itself.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

MIN_CONTRAST: Final = 4.5
"""WCAG 2.2, success criterion 1.4.3: normal text at level AA."""

_CONTROL_CONTRAST = 3.0  # WCAG 2.2, success criterion 1.4.11: a control against its surroundings
_DEEP_CONTRAST = 14.0  # the footer is always dark, so that its muted text can be discreet
_STEPS = 40
_MAX_SATURATION = 0.7

_WHITE = "#ffffff"
_BLACK = "#000000"
_DEFAULT_PRIMARY = "#1f4e79"
_DEFAULT_ACCENT = "#d9822b"

_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A background and the colours of everything on it; all values are ``#rrggbb``."""

    background: str
    text: str
    muted: str
    link: str
    button: str
    button_text: str


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The surfaces of a site."""

    paper: Surface  # pages and cards
    tint: Surface  # every other section
    brand: Surface  # the hero and the closing call
    deep: Surface  # the footer

    def surfaces(self) -> Iterator[tuple[str, Surface]]:
        """Yield each surface with its name, which is also its class in the style sheet."""
        for member in fields(self):
            yield member.name, getattr(self, member.name)


def make_palette(primary: str | None, secondary: str | None, accent: str | None) -> Palette:
    """Return the palette for the chosen colours; an invalid one is replaced by one that fits the others."""
    chosen = parse_colour(primary)
    main = chosen or _DEFAULT_PRIMARY
    second = parse_colour(secondary) or main
    third = parse_colour(accent) or (main if chosen else _DEFAULT_ACCENT)
    ink = mix(_BLACK, main, 0.12)
    tint = mix(_WHITE, main, 0.05 if luminance(main) < 0.5 else 0.18)
    on_main = _text_on(main, ink)
    links = (main, third, second)
    return Palette(
        paper=_surface(_WHITE, ink, links, third),
        tint=_surface(tint, ink, links, third),
        brand=_surface(main, on_main, (on_main,), third),
        deep=_surface(_readable(second, _WHITE, _DEEP_CONTRAST), _WHITE, (mix(_WHITE, third, 0.3),), third),
    )


def parse_colour(typed: str | None) -> str | None:
    """Return the colour as lower-case ``#rrggbb``; None unless it is three or six hexadecimal digits."""
    match = _HEX.fullmatch((typed or "").strip())
    if match is None:
        return None
    digits = match[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def luminance(colour: str) -> float:
    """Return the relative luminance of a ``#rrggbb`` colour, 0 to 1, as WCAG 2.2 defines it."""
    shares = (channel / 255 for channel in _channels(colour))
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two ``#rrggbb`` colours, 1 to 21, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mix(base: str, other: str, share: float) -> str:
    """Return ``base`` with ``share`` (0 to 1) of ``other`` mixed in."""
    pairs = zip(_channels(base), _channels(other), strict=True)
    return _hex(*((ours + (theirs - ours) * share) / 255 for ours, theirs in pairs))


def _surface(background: str, text: str, links: tuple[str, ...], button: str) -> Surface:
    readable = (wish for wish in links if contrast(wish, background) >= MIN_CONTRAST)
    link = next(readable, None) or _readable(links[0], background, MIN_CONTRAST)
    # A button that does not stand out takes the colour of the links, which always does.
    face = button if contrast(button, background) >= _CONTROL_CONTRAST else link
    return Surface(
        background=background,
        text=text,
        muted=_readable(mix(text, background, 0.3), background, MIN_CONTRAST),
        link=link,
        button=face,
        button_text=_text_on(face, background),
    )


def _readable(colour: str, background: str, minimum: float) -> str:
    """Return the nearest colour of the same hue that reaches the ``minimum`` contrast, else black or white.

    Only the lightness changes: mixed with black, a pale yellow would become grey instead of gold.
    """
    end = max((_BLACK, _WHITE), key=lambda candidate: contrast(candidate, background))
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in _channels(colour)))
    for step in range(_STEPS):
        # A pale colour hides its saturation; darkened, it would glare.
        calm = min(saturation, _MAX_SATURATION) if step else saturation
        candidate = _hex(*colorsys.hls_to_rgb(hue, lightness + (luminance(end) - lightness) * step / _STEPS, calm))
        if contrast(candidate, background) >= minimum:
            return candidate
    return end


def _text_on(background: str, preferred: str) -> str:
    """Return a text colour for ``background``: white, else ``preferred``, else black."""
    for candidate in (_WHITE, preferred):
        if contrast(candidate, background) >= MIN_CONTRAST:
            return candidate
    return _BLACK


def _hex(*channels: float) -> str:
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)


def _channels(colour: str) -> list[int]:
    """Return red, green and blue, 0 to 255."""
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
