"""Who may read the board and who may act there, by Airflow's own rights; and that a form was sent from our own page.

A form carries a seal that the page with the form was given: made with Airflow's own secret for this person, this act
and what the person was shown, for an hour. With it come the two headers by which a browser says where a request is
from; a cookie alone says too little, as it is also sent for pages on another port of the same host.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails, VariableDetails
from airflow.api_fastapi.auth.tokens import get_signing_key
from airflow.configuration import conf
from airflow.models import Variable
from airflow.models.dag import DagModel

from ltr_pipeline.airflow.keys import NIGHTLY_DAG

__all__ = [
    "SCORING",
    "Seal",
    "may_act",
    "may_answer",
    "may_see_recommendations",
    "not_from_us",
    "sealed",
    "unsealed",
]

SCORING: Final = "score_rows_daily"
"""Its recommendations wait for people."""

VARIABLE: Final = "ltr_gate_mode"
"""Who may set this one may switch the gate off, and so may overrule it."""

SECONDS: Final = 3600
"""How long a page that was opened can be sent."""


class Seal(NamedTuple):
    """A seal holds for a person's id, an act, and what the page has shown of it."""

    user: str
    act: str
    shown: Sequence[str]


def may_act(user: BaseUser) -> bool:
    """Tell whether somebody may edit the DAG and set the gate's Variables."""
    variable = VariableDetails(key=VARIABLE, team_name=Variable.get_team_name(VARIABLE))
    return _may(user, "PUT", NIGHTLY_DAG) and get_auth_manager().is_authorized_variable(
        method="PUT", details=variable, user=user
    )


def may_see_recommendations(user: BaseUser) -> bool:
    """Tell whether somebody may read the DAG that recommends."""
    return _may(user, "GET", SCORING)


def may_answer(user: BaseUser) -> bool:
    """Tell whether somebody may answer recommendations: who may edit the DAG that makes them."""
    return _may(user, "PUT", SCORING)


def _may(user: BaseUser, method: Literal["GET", "PUT"], dag: str) -> bool:
    details = DagDetails(id=dag, team_name=DagModel.get_team_name(dag))
    return get_auth_manager().is_authorized_dag(method=method, details=details, user=user)


def not_from_us(headers: Mapping[str, str], base_url: str | None = None) -> str:
    """Return why a form is refused whose sender is not a page of this Airflow; empty where it is.

    Browsers leave `Sec-Fetch-Site` out where an address is neither https nor this machine's; there `Origin` and the
    seal decide.

    Parameters
    ----------
    headers
        By lower-case name.
    base_url
        Where people see Airflow, which may be another host than a proxy asks for; None = as configured.
    """
    base = urlsplit(conf.get("api", "base_url", fallback="") if base_url is None else base_url)
    origin = headers.get("origin", "")
    sender = urlsplit(origin) if origin.startswith(("http://", "https://")) else None
    if sender is None or sender.netloc not in (headers.get("host"), base.netloc):
        return (
            "it does not come from a page of this Airflow (Origin); behind a proxy, set [api] base_url to its address"
        )
    site = headers.get("sec-fetch-site")
    if site != "same-origin" and (site is not None or sender.scheme == "https" or _is_this_machine(sender.hostname)):
        return "it does not come from a page of this Airflow (Sec-Fetch-Site)"
    return ""


def sealed(seal: Seal, now: Callable[[], float] = time.time) -> str:
    """Return the seal for the form of a page."""
    until, nonce = f"{int(now()) + SECONDS}", secrets.token_hex(16)
    return f"{until}.{nonce}.{_signature(seal, until, nonce)}"


def unsealed(given: str, seal: Seal, now: Callable[[], float] = time.time) -> str | None:
    """Return the identity of the page that a form was sent from; None where its seal is another or too old."""
    until, _, rest = given.partition(".")
    nonce, _, signature = rest.partition(".")
    if not (until.isascii() and until.isdecimal() and len(until) < 16 and now() < int(until)):
        return None
    fits = hmac.compare_digest(signature.encode(), _signature(seal, until, nonce).encode())
    return nonce if fits else None


def _signature(seal: Seal, until: str, nonce: str) -> str:
    told = "\n".join(part.encode().hex() for part in (seal.user, seal.act, *seal.shown, until, nonce))
    key = hmac.new(get_signing_key("api", "secret_key").encode(), b"ltr board", hashlib.sha256).digest()
    return hmac.new(key, told.encode(), hashlib.sha256).hexdigest()


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost" or (host or "").endswith(".localhost"):
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
