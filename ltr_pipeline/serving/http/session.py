"""Sessions of people who look at the board: a key once, then a cookie that the service has signed and does not keep.

A cookie is worth nothing without the key that it was made by: its signature is made with a secret that follows from
that key, so that every worker knows it, and a key that is taken out of the settings takes its sessions with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from typing import Final

from ltr_pipeline.serving.http import auth
from ltr_pipeline.serving.http.auth import RefusedError, check_own, known

__all__ = ["COOKIE", "Logins", "may_read", "may_write", "opened", "reads"]

COOKIE: Final = "ltr_board"
SECONDS: Final = 8 * 3600
"""How long a session lasts: a working day."""

PAUSE_SECONDS: Final = 1.0
"""How long a wrong key waits for its answer."""

AT_ONCE: Final = 4
"""Wrong keys that may wait at a time; more are refused, so that nobody tries many at once."""

_VERSION: Final = "1"


def opened(key: str, now: Callable[[], float] = time.time) -> str:
    """Return the value of a session's cookie, for the holder of a key."""
    until, nonce = f"{int(now()) + SECONDS}", secrets.token_urlsafe(12)
    told = f"{_VERSION}.{until}.{nonce}"
    return f"{told}.{_signature(told, key)}"


def may_read(headers: Mapping[str, str], keys: Sequence[str], now: Callable[[], float] = time.time) -> bool:
    """Return whether who sends these headers may read what is for holders of a key; everybody, while none is set."""
    if not keys:
        return True
    given = headers.get("x-api-key")
    return known(given, keys) if given is not None else reads(headers, keys, now)


def may_write(
    headers: Mapping[str, str], keys: Sequence[str], client: str | None, now: Callable[[], float] = time.time
) -> None:
    """Raise an error unless who sends a form of the board may write: as `auth.may_write`, or by a session.

    A session is the browser's, so its request has to say that one of our own pages sends it.

    Raises
    ------
    RefusedError
        There is neither key nor session, or another site's page sends it, or nothing says whose does.
    """
    if not keys or "x-api-key" in headers:
        auth.may_write(headers, keys, client)
        return
    check_own(headers)
    if not reads(headers, keys, now):
        raise RefusedError(401, "there is no session, or it has ended; log in, and answer again")
    if "origin" not in headers and "sec-fetch-site" not in headers:
        raise RefusedError(403, "nothing says which page sends this; use the board's own form, or send X-API-Key")


def reads(headers: Mapping[str, str], keys: Sequence[str], now: Callable[[], float] = time.time) -> bool:
    """Return whether a cookie among these headers is that of a session of now."""
    value = _cookie(headers.get("cookie", ""))
    told, _, signature = value.rpartition(".")
    version, _, rest = told.partition(".")
    until = rest.partition(".")[0]
    if version != _VERSION or not (until.isascii() and until.isdecimal() and len(until) < 16):
        return False
    signed = [hmac.compare_digest(signature.encode(), _signature(told, key).encode()) for key in keys]
    return any(signed) and now() < int(until)


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _signature(told: str, key: str) -> str:
    return hmac.new(_secret(key), told.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=64)
def _secret(key: str) -> bytes:
    """Return the secret of a key's sessions; slowly made, so that a cookie helps nobody to guess the key."""
    return hashlib.scrypt(key.encode(), salt=b"ltr board session", n=2**12, r=8, p=1)


class Logins:
    """Lets keys in, and wrong ones wait."""

    def __init__(self) -> None:
        self._waiting = 0

    async def allow(self, given: str, keys: Sequence[str]) -> bool | None:
        """Return whether a key is known; None where too many wrong ones wait for their answers."""
        if self._waiting >= AT_ONCE:
            return None
        if known(given, keys):
            return True
        self._waiting += 1
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._waiting -= 1
        return False
