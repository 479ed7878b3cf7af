"""Decoding the messages of a long queue: as ``celery_messages`` does, in a third of the time.

Only where a queue is long is this module imported, because a short one is decoded sooner than msgspec is
imported. It reads the message that everybody publishes; whatever is otherwise it leaves to the other.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from sitegenctl.adapters.celery_messages import (
    ACTOR_HEADER,
    ENQUEUED_AT_HEADER,
    Place,
    decode as decode_anything,
    live_task,
)
from sitegenctl.domain.task import ForeignMessage, LiveTask


class _Headers(msgspec.Struct, gc=False):
    task: str
    id: str
    retries: int = 0
    eta: str | None = None
    enqueued_at: str | None = msgspec.field(name=ENQUEUED_AT_HEADER, default=None)
    actor: str | None = msgspec.field(name=ACTOR_HEADER, default=None)


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str


class _Envelope(msgspec.Struct, gc=False):
    headers: _Headers
    properties: _Properties
    body: str
    content_type: str = msgspec.field(name="content-type")


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_body: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_USUAL = ("application/json", "base64")


def decode(raw: bytes, place: Place, *, task_name: str, now: datetime) -> LiveTask | ForeignMessage:
    """Decode one message of a queue's list, like ``celery_messages.decode``."""
    try:
        message = _read_envelope(raw)
        headers = message.headers
        if headers.task == task_name and (message.content_type, message.properties.body_encoding) == _USUAL:
            body = _read_body(binascii.a2b_base64(message.body))
            return live_task(
                headers.id,
                task_name,
                body[0],
                body[1],
                place,
                now=now,
                retries=headers.retries,
                eta=headers.eta,
                enqueued_at=headers.enqueued_at,
                actor=headers.actor,
            )
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError, RecursionError):
        pass  # something else than usual: the other decoder says what
    return decode_anything(raw, place, task_name=task_name, now=now)
