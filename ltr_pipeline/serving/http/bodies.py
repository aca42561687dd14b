"""Bodies of requests, read as far as their type, their size, their time and the room of all of them allow."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request

__all__ = ["FORM", "JSON", "ROOM", "Bodies", "BodyError"]

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

ROOM: Final = 32 << 20
"""Bytes that all bodies which have not come to their end may have together, in a worker."""


class BodyError(Exception):
    """A body is refused: it is too large (413), too slow (408), or not declared as JSON (415)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Bodies:
    """Reads bodies; where there is no room for one more piece, gives up the one that began first.

    Parameters
    ----------
    most
        Largest size of one, in bytes.
    seconds
        Longest time that one may take.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._room = max(ROOM, 2 * most)
        self._taken = 0
        self._begun: dict[asyncio.Timeout, int] = {}  # bytes of each, in the order in which they began

    async def read(self, request: Request, kind: str = JSON) -> bytes:
        """Read the whole body of a request; BodyError as soon as it is too large or too slow.

        A `FORM` any page in a browser can send: who takes one looks where it comes from (`auth.check_own`).
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
            # This is for safety: otherwise any page in a browser could send to a service on the same machine.
            raise BodyError(415, f"the body must be {kind}; set the header Content-Type")
        try:
            async with asyncio.timeout(self._seconds) as time:
                return await self._read(request, time)
        except TimeoutError:
            raise BodyError(
                408,
                f"the body took longer than {self._seconds} s (LTR_BODY_SECONDS), or faster ones needed its room; "
                "send it at once",
            ) from None

    async def _read(self, request: Request, time: asyncio.Timeout) -> bytes:
        parts, size = [], 0
        self._begun[time] = 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > self._most:
                    raise BodyError(
                        413, f"the body is larger than {self._most} bytes (LTR_MAX_BODY_BYTES); send fewer candidates"
                    )
                parts.append(part)
                self._make_room(time, len(part))
        finally:
            self._taken -= self._begun.pop(time, 0)
        return b"".join(parts)

    def _make_room(self, time: asyncio.Timeout, size: int) -> None:
        if time in self._begun:  # else it was given up already
            self._begun[time] += size
            self._taken += size
        if self._taken > self._room:
            first = next(iter(self._begun))
            self._taken -= self._begun.pop(first)
            first.reschedule(asyncio.get_running_loop().time())
