"""Bodies and answers of the API; a wrong body becomes an error that says where it is wrong and why."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec

from ltr_pipeline.errors import RequestError
from ltr_pipeline.names import unknown_keys
from ltr_pipeline.schema import RATINGS
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
Rating = Annotated[int, msgspec.Meta(ge=RATINGS[0], le=RATINGS[1])]
T = TypeVar("T")


class RankCandidate(Candidate, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An item to rank.

    Attributes
    ----------
    group
        Protected group of the item, for the fairness of tomorrow's model; never used to rank.
    available
        False = the item is left out of the answer and of the events.
    """

    item_id: Text
    group: Text | None = None
    available: bool = True


class RankRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query, and the items to rank for it.

    Attributes
    ----------
    query_id
        What is asked, such as a search; the events say it again.
    candidates
        The items to rank.
    user_id
        Who asks.
    k
        How many items are wanted; all when it is not given.
    explain
        Whether each item comes with its strongest feature contributions.
    probability
        Whether each item comes with the probability that it is relevant.
    test
        Whether this is a test: it is answered like any other, but never trains a model.
    """

    query_id: Text
    candidates: Annotated[list[RankCandidate], msgspec.Meta(min_length=1)]
    user_id: Text | None = None
    k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    explain: bool = False
    probability: bool = False
    test: bool = False


class RankedItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An item in its place.

    Attributes
    ----------
    rank
        From 1.
    contributions
        By feature, strongest first; only where they were asked for.
    probability
        That of the relevance that the mapping calls positive; only where it was asked for, and null where the answer's
        `uncalibrated` says why.
    """

    item_id: str
    score: float
    rank: int
    contributions: dict[str, float] | None = None
    probability: float | msgspec.UnsetType | None = msgspec.UNSET


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that candidates did not give.

    Attributes
    ----------
    candidates
        How many candidates did not give it.
    read_as
        How the model reads it: ``as zero`` when it knew no missing values in training and takes them for 0, ``as an
        unknown category`` where its values are categories; otherwise it has learned what missing means.
    """

    candidates: int
    read_as: str


class RankAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The best items of a request.

    Attributes
    ----------
    request_id
        Id of this answer; feedback names it. Events call it `ranking_id`.
    version
        Version of the model, or ``legacy``.
    model
        ``lightgbm``, ``linear`` (the document's distilled weights), ``request`` (its order stays, where these are no
        better than chance) or ``legacy``.
    fallback
        Why the model did not score; null when it did.
    policy
        What decided the order: the version (``…+linear``, ``…+request``: its fallback), or how two orders were mixed.
    missing
        Features that candidates did not give, by name.
    unknown_features
        Features that candidates gave and the model does not have.
    uncalibrated
        Why probabilities that were asked for are null; not there when they are numbers, or were not asked for.
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
    uncalibrated: str | msgspec.UnsetType = msgspec.UNSET


class ExplainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two candidates, to ask why one stands above the other."""

    above: RankCandidate
    below: RankCandidate


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two scores, feature by feature.

    Attributes
    ----------
    above, below
        Ids of the two items.
    difference
        Score of the first minus score of the second; `contributions` sum to it.
    contributions
        How much each feature adds to the difference, strongest first.
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
    """Something a user did with an item of the answer `request_id`, or of a `query_id` when only that is known.

    Attributes
    ----------
    action
        One of the actions of the mapping; it may be left out beside a rating.
    rating
        How content the user was, from 1 to 5; it tells of satisfaction and never trains a model.
    event_id
        Lets feedback that is sent twice count once.
    """

    item_id: Text
    action: Text | None = None
    rating: Rating | None = None
    request_id: RequestId | None = None
    query_id: Text | None = None
    user_id: Text | None = None
    event_id: Text | None = None


class FeedbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One or many feedback events."""

    events: Annotated[list[FeedbackItem], msgspec.Meta(min_length=1, max_length=1000)]


class ShownRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The items of an answer that were really shown, in shown order."""

    request_id: RequestId
    items: Annotated[list[Text], msgspec.Meta(max_length=10000)]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The number of events that were taken."""

    accepted: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a process that lives.

    Attributes
    ----------
    version, model
        Model that ranks, as in an answer to rank.
    weights_age_seconds
        Age of the weights; null for the legacy weights.
    source
        Address where new weights are looked for.
    simulated
        Whether lists are logged with simulated events, as weights learned from them rank.
    guard
        State of the guard on the newest weights.
    pid
        Process id of the worker that answers.
    """

    status: str
    version: str
    model: str
    weights_age_seconds: float | None
    source: str
    simulated: bool
    guard: Watch
    pid: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a published model is in use."""

    ready: bool
    version: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a request was not answered: what was wrong, where, and what to do."""

    error: str


class NotJsonError(RequestError):
    """The body is not JSON at all."""


def decode(body: bytes, kind: type[T]) -> T:
    """Decode a body as a request of this kind.

    Raises
    ------
    NotJsonError
        The body is not JSON, or nested too deep to tell.
    RequestError
        The body does not have the form of `kind`; the message says where.
    """
    try:
        return _decoder(kind).decode(body)
    except msgspec.ValidationError as error:
        raise RequestError(unknown_keys(error, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJsonError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise NotJsonError("the body is nested too deep; a request needs four levels") from None


def check_candidates(candidates: list[RankCandidate], most: int) -> None:
    """Raise RequestError when there are too many candidates, or an item is there twice."""
    if len(candidates) > most:
        raise RequestError(f"{len(candidates)} candidates, but a request may have {most} (LTR_MAX_CANDIDATES)")
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
