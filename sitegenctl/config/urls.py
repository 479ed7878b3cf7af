"""Passwords in URLs: finding, adding and masking them.

Passwords with unescaped ``/``, ``?``, ``#`` or ``@`` are common. So everything up to the last ``@`` counts as user and
password, whatever a URL parser would return.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_BETWEEN_SENTINELS = re.compile(r";(?=sentinel://)")
_PARTS = re.compile(r"(?P<scheme>[\w+.-]+://)(?:(?P<user>[^@/?#]*)@)?(?P<rest>.*)", re.DOTALL)


def has_password(url: str) -> bool:
    """Whether the URL contains a password."""
    if re.search(r"[?&]password=[^&]", url):
        return True
    login, _, _ = url.partition("://")[2].rpartition("@")
    return bool(login.partition(":")[2])


def with_password(url: str, password: str) -> str:
    """Add the password to the URL, or to each of several sentinel URLs, unless it has one."""
    return ";".join(_with_password(part, password) for part in _BETWEEN_SENTINELS.split(url))


def _with_password(url: str, password: str) -> str:
    match = _PARTS.fullmatch(url)
    if match is None or has_password(url):
        return url
    user = (match["user"] or "").rstrip(":")
    return f"{match['scheme']}{user}:{quote(password, safe='')}@{match['rest']}"


def mask_url(url: str) -> str:
    """The URL with its passwords replaced by ``***``; a text that is not a URL is masked completely."""
    several = _BETWEEN_SENTINELS.split(url)
    if len(several) > 1:
        return ";".join(map(mask_url, several))
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return "***"
    login, at, address = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        rest = f"{user}:***@{address}" if colon else f"{user}@{address}"
    masked = re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", rest, flags=re.IGNORECASE)
    return f"{scheme}://{masked}"
