"""The site's colours: the customer's where they can be read, adjusted where they can't.

Owns colour arithmetic and the promise that every text of the site reaches ``MIN_CONTRAST`` on what lies behind
it, whatever was chosen. The style sheet owns where which surface is used; it names no colour itself.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

MIN_CONTRAST = 4.5
"""What WCAG 2.2 asks of normal text at level AA (success criterion 1.4.3)."""

_PART_CONTRAST = 3.0  # what 1.4.11 asks of a control against what surrounds it
_DEEP_CONTRAST = 14.0  # a footer that is dark for certain, so that its muted text can stay calm
_STEPS = 40
_MOST_SATURATED = 0.7

_WHITE = "#ffffff"
_BLACK = "#000000"
_DEFAULT_PRIMARY = "#1f4e79"
_DEFAULT_ACCENT = "#d9822b"

_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A background and everything that may be written on it; all values are ``#rrggbb``."""

    background: str
    text: str
    muted: str
    link: str
    button: str
    button_text: str

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """The (name, text colour, background colour) of every text that this surface carries."""
        yield "text", self.text, self.background
        yield "muted", self.muted, self.background
        yield "link", self.link, self.background
        yield "button", self.button_text, self.button


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The surfaces that a site is made of."""

    paper: Surface  # pages and cards
    tint: Surface  # every other section
    brand: Surface  # the hero and the closing call
    deep: Surface  # the footer

    def surfaces(self) -> Iterator[tuple[str, Surface]]:
        """Each surface with its name, which is also its class in the style sheet."""
        for member in fields(self):
            yield member.name, getattr(self, member.name)

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """The (name, text colour, background colour) of every text on the site."""
        for surface_name, surface in self.surfaces():
            for name, text, background in surface.pairs():
                yield f"{surface_name}.{name}", text, background


def parse_colour(typed: str | None) -> str | None:
    """The colour as ``#rrggbb`` in lower case, or None when it is not three or six hexadecimal digits."""
    match = _HEX.fullmatch((typed or "").strip())
    if match is None:
        return None
    digits = match[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def luminance(colour: str) -> float:
    """The relative luminance of a ``#rrggbb`` colour, 0 to 1, as WCAG 2.2 defines it."""
    red, green, blue = (_linear(channel / 255) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two ``#rrggbb`` colours, 1 to 21, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def make_palette(primary: str | None, secondary: str | None, accent: str | None) -> Palette:
    """The palette for what the customer chose; what isn't a colour is replaced by one that fits the rest."""
    chosen = parse_colour(primary)
    main = chosen or _DEFAULT_PRIMARY
    second = parse_colour(secondary) or main
    third = parse_colour(accent) or (main if chosen else _DEFAULT_ACCENT)
    deep = _readable(second, _WHITE, _DEEP_CONTRAST)
    ink = mix(_BLACK, main, 0.12)
    tint = mix(_WHITE, main, 0.05 if luminance(main) < 0.5 else 0.18)
    wishes = (main, third, second)
    return Palette(
        paper=_surface(_WHITE, ink, wishes, third),
        tint=_surface(tint, ink, wishes, third),
        brand=_surface(main, _on(main, ink), (_on(main, ink),), third),
        deep=_surface(deep, _WHITE, (mix(_WHITE, third, 0.3),), third),
    )


def mix(base: str, other: str, share: float) -> str:
    """``base`` with ``share`` (0 to 1) of ``other`` mixed in."""
    pairs = zip(_channels(base), _channels(other), strict=True)
    return _hex(*((ours + (theirs - ours) * share) / 255 for ours, theirs in pairs))


def _surface(background: str, text: str, links: tuple[str, ...], button: str) -> Surface:
    link = _first_readable(links, background)
    # A button that drowns in its surroundings takes the colour of the links there, which never does.
    face = button if contrast(button, background) >= _PART_CONTRAST else link
    return Surface(
        background=background,
        text=text,
        muted=_readable(mix(text, background, 0.3), background, MIN_CONTRAST),
        link=link,
        button=face,
        button_text=_on(face, background if contrast(background, face) >= MIN_CONTRAST else _BLACK),
    )


def _first_readable(wishes: tuple[str, ...], background: str) -> str:
    for wish in wishes:
        if contrast(wish, background) >= MIN_CONTRAST:
            return wish
    return _readable(wishes[0], background, MIN_CONTRAST)


def _readable(colour: str, background: str, minimum: float) -> str:
    """The colour nearest to ``colour`` in its own hue that reaches ``minimum``, or the end it was heading for.

    Lightness alone is moved: mixing with black would turn a pale yellow into grey instead of gold.
    """
    end = max((_BLACK, _WHITE), key=lambda candidate: contrast(candidate, background))
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in _channels(colour)))
    for step in range(_STEPS):
        moved = lightness + (luminance(end) - lightness) * step / _STEPS
        # Pale colours hide how saturated they are; darkened, all of it would show.
        calm = min(saturation, _MOST_SATURATED) if step else saturation
        candidate = _hex(*colorsys.hls_to_rgb(hue, moved, calm))
        if contrast(candidate, background) >= minimum:
            return candidate
    return end


def _on(background: str, ink: str) -> str:
    """What to write with on ``background``: white, else ``ink``, else black; white or black always does."""
    for candidate in (_WHITE, ink):
        if contrast(candidate, background) >= MIN_CONTRAST:
            return candidate
    return _BLACK


def _hex(*channels: float) -> str:
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
