"""What goes over the wire, and how a wrong request is answered: 4xx with the place and the reason."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec

from ltr_pipeline.errors import RequestError
from ltr_pipeline.scoring.requests import Candidate
from ltr_pipeline.serving.guard import Watch

__all__ = [
    "ExplainRequest",
    "Explanation",
    "Failure",
    "FeedbackItem",
    "FeedbackRequest",
    "Health",
    "Missing",
    "NotJsonError",
    "RankAnswer",
    "RankCandidate",
    "RankRequest",
    "RankedItem",
    "Ready",
    "Recorded",
    "ShownRequest",
    "check_candidates",
    "decode",
]

LONGEST_TEXT: Final = 256  # characters of an id or a name
LONGEST_REQUEST_ID: Final = 1536  # it holds the query's id in base64

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]
RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REQUEST_ID)]
T = TypeVar("T")


class RankCandidate(Candidate, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An item to rank.

    Attributes
    ----------
    group
        Its protected group, for the fairness of tomorrow's model; never used to rank.
    available
        One that is not is left out of the answer and of the events.
    """

    item_id: Text
    group: Text | None = None
    available: bool = True


class RankRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked, and the items to rank for it.

    Attributes
    ----------
    k
        How many items are wanted; all when it is not given.
    explain
        Whether each item comes with its strongest feature contributions.
    test
        The request is answered like any other, but what it shows never trains a model.
    """

    query_id: Text
    candidates: Annotated[list[RankCandidate], msgspec.Meta(min_length=1)]
    user_id: Text | None = None
    k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    explain: bool = False
    test: bool = False


class RankedItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An item in its place, `rank` 1-based; `contributions` by feature, strongest first."""

    item_id: str
    score: float
    rank: int
    contributions: dict[str, float] | None = None


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that candidates did not give: how many, and what the model makes of it.

    Attributes
    ----------
    read_as
        ``as zero``: the model knew no missing values in training and takes it for 0; else it has learned what missing
        means.
    """

    candidates: int
    read_as: str


class RankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The best items of a request.

    Attributes
    ----------
    request_id
        Of this answer; feedback names it. Events call it `ranking_id`.
    version
        Of the model, or ``legacy``.
    model
        ``lightgbm``, ``linear`` (the document's distilled weights) or ``legacy``.
    fallback
        Why the model did not score; null when it did.
    policy
        What decided the order: the version (``…+linear``: its linear weights), or how two orders were mixed.
    missing, unknown_features
        Features that were not given, by name; those that were, but that the model does not have.
    """

    request_id: str
    query_id: str
    version: str
    model: str
    fallback: str | None
    policy: str
    items: list[RankedItem]
    missing: dict[str, Missing]
    unknown_features: tuple[str, ...]


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two candidates, to ask why the one stands above the other."""

    above: RankCandidate
    below: RankCandidate


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two scores, feature by feature.

    Attributes
    ----------
    difference
        Score of the one minus score of the other; `contributions` sum to it.
    contributions
        By feature, the strongest first: what it adds to the difference.
    """

    version: str
    model: str
    above: str
    below: str
    difference: float
    contributions: dict[str, float]
    missing: dict[str, Missing]
    unknown_features: tuple[str, ...]


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user did with an item: for a `request_id`, or for a `query_id` when that is all that is known.

    Attributes
    ----------
    event_id
        Makes a feedback that is sent twice count once.
    """

    item_id: Text
    action: Text
    request_id: RequestId | None = None
    query_id: Text | None = None
    user_id: Text | None = None
    event_id: Text | None = None


class FeedbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One or many feedback events."""

    events: Annotated[list[FeedbackItem], msgspec.Meta(min_length=1, max_length=1000)]


class ShownRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items of an answer were really shown, in shown order."""

    request_id: RequestId
    items: Annotated[list[Text], msgspec.Meta(max_length=10000)]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """How many events were taken in."""

    accepted: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That the process lives, and what it ranks with.

    Attributes
    ----------
    version, model
        As in an answer to rank.
    weights_age_seconds
        Since the weights were made; null for the legacy weights.
    source
        Where new weights are looked for.
    guard
        What the guard sees of the newest weights.
    pid
        Of the worker that answers.
    """

    status: str
    version: str
    model: str
    weights_age_seconds: float | None
    source: str
    guard: Watch
    pid: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a published model is in use."""

    ready: bool
    version: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not answered: what was wrong, where, and what to do."""

    error: str


class NotJsonError(RequestError):
    """A body that is no JSON at all."""


def decode(body: bytes, kind: type[T]) -> T:
    """Request in a body.

    Raises
    ------
    NotJsonError
        It is no JSON, or nested too deep to tell.
    RequestError
        It is not what `kind` asks for; with the place.
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise RequestError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJsonError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise NotJsonError("the body is nested too deep; a request needs four levels") from None


def check_candidates(candidates: list[RankCandidate], most: int) -> None:
    """RequestError when there are too many, or when an item is there twice."""
    if len(candidates) > most:
        raise RequestError(f"{len(candidates)} candidates, but at most {most} are ranked at once (LTR_MAX_CANDIDATES)")
    if len({candidate.item_id for candidate in candidates}) < len(candidates):
        places: dict[str, int] = {}
        for row, candidate in enumerate(candidates):
            if (first := places.setdefault(candidate.item_id, row)) != row:
                raise RequestError(
                    f"candidate {row}: item_id {candidate.item_id!r} is also candidate {first}; send each item once"
                )


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    return _DECODERS[kind]
