"""What comes behind the head of a request: read whole, within bounds."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Receive


class BodyError(Exception):
    """`status`: of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read_body(headers: Headers, receive: Receive, bytes_max: int, within_s: float) -> bytes:
    """Raises BodyError, also where it was cut off: half a body is never carried out."""
    too_large = BodyError(413, "This is too large.")
    said = headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > bytes_max:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyError(400, "This was cut off.")
                body += message.get("body", b"")
                if len(body) > bytes_max:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise BodyError(408, "This did not come in time.") from None
