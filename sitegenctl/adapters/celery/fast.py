"""Decoding with msgspec, for long queues: its import takes longer than decoding a short one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from sitegenctl.adapters.broker.task_args import parse_time
from sitegenctl.adapters.celery.codec import (
    ACTOR_HEADER,
    EMBED,
    ENQUEUED_AT_HEADER,
    Decoder,
    Item,
    Place,
    parse_json,
)
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID
from sitegenctl.domain.queue.task import LiveTask

_REJECTED = (msgspec.MsgspecError, ValueError, RecursionError)


class _Headers(msgspec.Struct, gc=False):
    task: str
    id: str
    retries: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    eta: None = None
    expires: None = None
    compression: None = None
    timelimit: tuple[None, None] | None = None
    enqueued_at: str | None = msgspec.field(name=ENQUEUED_AT_HEADER, default=None)
    actor: str | None = msgspec.field(name=ACTOR_HEADER, default=None)


class _Properties(msgspec.Struct, gc=False):
    body_encoding: Literal["base64"]


class _Envelope(msgspec.Struct, gc=False):
    headers: _Headers
    properties: _Properties
    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")


# The body of the standard message: `[[42], {"resume": true}, {…}]`, which carries no other task. No order id has more
# than ten digits.
_STANDARD_BODY = re.compile(
    rb"\[\[([1-9][0-9]{0,9})\], \{(?:\"resume\": (true|false))?\}, " + re.escape(EMBED.encode()) + rb"\]"
).fullmatch

_decode = msgspec.json.Decoder().decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def parse(raw: bytes | str) -> Any:
    """Parse JSON like ``parse_json``: workers accept NaN and lone surrogates, which msgspec rejects."""
    try:
        return _decode(raw)
    except _REJECTED:
        return parse_json(raw)


class FastDecoder(Decoder):
    """A decoder with a shortcut for the standard message of a task of ours, which takes a quarter of the time."""

    def decode(self, raw: bytes | str, place: Place) -> list[Item]:
        """Decode a list entry."""
        try:
            message = _decode_envelope(raw)
            headers = message.headers
            enqueued_at = parse_time(headers.enqueued_at)
            if (
                headers.task == self.task_name
                and (body := _STANDARD_BODY(message.body)) is not None
                and (order_id := int(body[1])) <= MAX_ORDER_ID
                # What msgspec skips may be invalid UTF-8, which is no JSON. Celery escapes what is not ASCII.
                and raw.isascii()
                and (enqueued_at is not None or headers.enqueued_at is None)
                and "\0" not in headers.id
                and "\0" not in (headers.actor or "")
            ):
                return [
                    LiveTask(
                        task_id=headers.id,
                        name=headers.task,
                        order_id=order_id,
                        state=place.state,
                        attempt=headers.retries + 1,
                        enqueued_at=enqueued_at,
                        actor=headers.actor,
                        position=place.position,
                        delivered_at=place.delivered_at,
                        delivery=place.delivery,
                        resume=body[2] != b"false",
                    )
                ]
        except _REJECTED:
            pass
        return super().decode(raw, place)
