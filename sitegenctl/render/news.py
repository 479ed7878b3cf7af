"""News as JSON and as a message for Slack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sitegenctl.domain.health.news import News
from sitegenctl.render.text import neutralise, shorten

#: Version of the posted JSON.
SCHEMA = "sitegenctl-news/1"

# Orders named in a message for people.
_NAMED = 5
_MAX_TEXT = 300


def news_data(news: Sequence[News], *, context: str | None, at: datetime) -> dict[str, Any]:
    """The JSON that is posted. Texts of customers are exact."""
    return {
        "schema": SCHEMA,
        "context": context,
        "at": at.isoformat(),
        "news": [
            {
                "topic": str(each.topic),
                "better": each.is_better,
                "subject": str(each.subject) if each.subject is not None else None,
                "text": each.text,
                "orders": [
                    {"order_id": order_id, "customer": customer or None} for order_id, customer in each.orders.items()
                ],
            }
            for each in news
        ],
    }


def slack_data(news: Sequence[News], *, context: str | None, at: datetime) -> dict[str, Any]:
    """A message for an incoming webhook of Slack, and of what understands its format."""
    heading = f"sitegenctl: {context}" if context else "sitegenctl"
    marks = {True: ":large_green_circle:", False: ":red_circle:"}
    lines = [f"{marks[each.is_better]} {_for_slack(line)}" for each in news for line in [news_line(each)]]
    return {"text": "\n".join([f"*{_for_slack(heading)}*", *lines])}


def news_line(news: News) -> str:
    """One line for people; of many orders, only the first are named."""
    named = [f"{order_id} {shorten(customer, 40)}".strip() for order_id, customer in list(news.orders.items())[:_NAMED]]
    more = len(news.orders) - len(named)
    orders = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    text = shorten(news.text, _MAX_TEXT)
    return f"{text}: {orders}" if orders else text


def _for_slack(text: str) -> str:
    """Neither a link, a mention nor formatting.

    https://api.slack.com/reference/surfaces/formatting#escaping: & < > are escaped. A space of no width parts the rest.
    """
    text = neutralise(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Slack also links bare addresses and names of hosts.
    return re.sub(r"([@#*_~`/]|(?<=\w)\.(?=\w))", "\\1\u200b", text)


#: The formats of ``--notify-format``.
FORMATS = {"json": news_data, "slack": slack_data}
