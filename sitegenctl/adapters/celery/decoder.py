"""Decoding the messages of a long queue: as ``celery_messages`` does, in a third of the time.

Only where a queue is long is this module imported, because a short one is decoded sooner than msgspec is
imported. It reads the message that everybody publishes; whatever is otherwise it leaves to the other.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from sitegenctl.adapters.broker.json_values import text
from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.celery.bodies import may_name, names
from sitegenctl.adapters.celery.codec import (
    ACTOR_HEADER,
    ENQUEUED_AT_HEADER,
    OTHER,
    Item,
    Place,
    decode as decode_anything,
    envelope,
    limit_of,
    task_id_of,
    unacked_envelope,
)
from sitegenctl.domain.orders.order import MAX_ORDER_ID
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask

_NO_LIMITS = [None, None]


class _Headers(msgspec.Struct, gc=False):
    task: str
    id: str
    retries: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    eta: None = None
    expires: None = None
    compression: None = None
    timelimit: Any = None
    enqueued_at: str | None = msgspec.field(name=ENQUEUED_AT_HEADER, default=None)
    actor: str | None = msgspec.field(name=ACTOR_HEADER, default=None)


class _Properties(msgspec.Struct, gc=False):
    body_encoding: Literal["base64"]


class _Envelope(msgspec.Struct, gc=False):
    headers: _Headers
    properties: _Properties
    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")


class _Args(msgspec.Struct, array_like=True, gc=False):
    order_id: Annotated[int, msgspec.Meta(ge=1, le=MAX_ORDER_ID)]


class _Call(msgspec.Struct, array_like=True, gc=False):
    args: _Args
    kwargs: Any


class _Identity(msgspec.Struct, gc=False):
    id: str


class _Identified(msgspec.Struct, gc=False):
    headers: _Identity


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_call = msgspec.json.Decoder(_Call).decode
_read_identity = msgspec.json.Decoder(_Identified).decode
_read_delivered_identity = msgspec.json.Decoder(tuple[_Identified, Any, Any]).decode


def decode(
    raw: bytes, place: Place, *, task_name: str, now: datetime, skipped: Counter[str] | None = None
) -> list[Item]:
    """Decode one message of a queue's list, like ``celery_messages.decode``."""
    try:
        message = _read_envelope(raw)
        headers, body = message.headers, message.body
        # What msgspec skips may be no UTF-8, and then the whole is no JSON. Celery escapes what is not ASCII.
        if raw.isascii() and body.isascii() and not may_name(task_name, body):
            if headers.task != task_name and not names(task_name, raw):
                return [
                    ForeignMessage(
                        name=text(headers.task) or "",
                        reason=OTHER,
                        state=place.state,
                        task_id=text(headers.id),
                        position=place.position,
                    )
                ]
            if headers.task == task_name:
                order_id, sent = _read_call(body).args.order_id, parse_time(headers.enqueued_at)
                if sent is None and headers.enqueued_at is not None:
                    raise ValueError
                if "\0" in headers.id or "\0" in (headers.actor or ""):
                    raise ValueError
                limits = headers.timelimit
                return [
                    LiveTask(
                        task_id=headers.id,
                        name=task_name,
                        order_id=order_id,
                        state=place.state,
                        attempt=headers.retries + 1,
                        enqueued_at=sent,
                        actor=headers.actor,
                        position=place.position,
                        delivered_at=place.delivered_at,
                        delivery=place.delivery,
                        limit=None if limits == _NO_LIMITS else limit_of(limits),
                    )
                ]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # not the usual message: the other decoder tells what it is
    return decode_anything(raw, place, task_name=task_name, now=now, skipped=skipped)


def task_id_in_list(raw: bytes) -> str | None:
    """The id of the task in a message of a queue's list, whichever task it is; None where there is none."""
    try:
        return text(_read_identity(raw).headers.id)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return task_id_of(envelope(raw) or {})


def task_id_in_unacked(raw: bytes) -> str | None:
    """The id of the task in a value of ``unacked``, likewise."""
    try:
        return text(_read_delivered_identity(raw)[0].headers.id)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return task_id_of(unacked_envelope(raw) or {})
