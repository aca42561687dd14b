"""Who may write: holders of a key, or, while there is none, programs on this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

__all__ = ["RefusedError", "may_write"]


class RefusedError(Exception):
    """Who is not let in: 401 without a key, 403 otherwise."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def may_write(given: str | None, keys: Sequence[str], client: str | None) -> None:
    """Let a writer in, or not.

    Parameters
    ----------
    given
        Content of ``X-API-Key``.
    keys
        Those that are let in; the time of the comparison does not depend on them.
    client
        Address of the peer.

    Raises
    ------
    RefusedError
        No or a wrong key; or there are no keys and the peer is not on this machine.
    """
    if not keys:
        if not _is_loopback(client):
            raise RefusedError(403, "writes are refused from other machines while no key is set; set LTR_API_KEYS")
        return
    if given is None:
        raise RefusedError(401, "this needs a key; send it as X-API-Key")
    known = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]  # all, so that the time tells nothing
    if not any(known):
        raise RefusedError(403, "X-API-Key holds no known key")


def _is_loopback(client: str | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False
