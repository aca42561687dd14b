"""Permission to write: for holders of a key, or, while no key is set, for programs on this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

__all__ = ["RefusedError", "check_own", "is_local", "known", "may_write"]

FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers of a proxy: requests that it passes on have its address, but may come from anywhere."""


class RefusedError(Exception):
    """A writer is not let in: 401 without a key, 403 otherwise."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def may_write(headers: Mapping[str, str], keys: Sequence[str], client: str | None) -> None:
    """Raise an error unless the sender of a request may write. No page of another site may, with a key or without.

    Parameters
    ----------
    headers
        Headers of the request, by lower-case name.
    keys
        Keys that ``X-API-Key`` may hold; the time of the comparison does not depend on them.
    client
        Address of the peer itself, not one that a header claims.

    Raises
    ------
    RefusedError
        The key is missing or wrong, or no keys are set and the request does not come from this machine; or a browser
        sends it for another site's page.
    """
    check_own(headers)
    if not keys:
        if not is_local(headers, client):
            raise RefusedError(403, "writes are refused from other machines while no key is set; set LTR_API_KEYS")
        return
    given = headers.get("x-api-key")
    if given is None:
        raise RefusedError(401, "a write needs a key; send it as X-API-Key")
    if not known(given, keys):
        raise RefusedError(403, "the key in X-API-Key is not known")


def check_own(headers: Mapping[str, str]) -> None:
    """Raise RefusedError when a browser sends a request for a page of another site."""
    if _is_foreign(headers):
        raise RefusedError(403, "a browser sent this for a page of another site; use the service's own pages, or none")


def known(given: str, keys: Sequence[str]) -> bool:
    """Return whether a key is among those that are known, in a time that tells nothing of them."""
    same = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]  # all of them: time must tell nothing
    return any(same)


def is_local(headers: Mapping[str, str], client: str | None) -> bool:
    """Return whether a request comes from this machine, not by a proxy nor from another site's page in a browser."""
    if any(name in headers for name in FORWARDED):
        return False
    return _is_loopback(client) and _is_loopback(_host(headers.get("host", "")))


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Return whether a browser says that another site's page sends the request (Fetch Metadata, else RFC 6454)."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")  # `urlsplit` refuses some


def _host(header: str) -> str | None:
    """Return the name in a ``Host`` header, without its port."""
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return None
    return "127.0.0.1" if name == "localhost" else name


@lru_cache(maxsize=64)
def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
