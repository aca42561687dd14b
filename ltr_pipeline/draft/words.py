"""Usual names of fields, kinds and actions, in any domain; a name is a hint and never a proof."""

from __future__ import annotations

import re
from typing import Final

from ltr_pipeline.draft.tables import Path

__all__ = ["NAMES", "is_called", "kind_leaning", "words_of", "worth"]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_MADE_OF: Final = frozenset(
    {"id", "ids", "uuid", "guid", "key", "value", "name", "code", "no", "number", "ref", "text", "pseudo"}
)
"""Words that say what form a name has; what it is of stands before them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final[dict[str, tuple[str, ...]]] = {
    "query": _words(
        "query search case request question term keyword keywords q qid intent lookup prompt ticket "
        "inquiry enquiry demand"
    ),
    "ranking": _words(
        "ranking list impression serp slate results recommendation rec response req batch feed carousel "
        "request search display render"
    ),
    "user": _words(
        "user uid userid visitor customer client member account buyer profile person cookie device "
        "anonymous shopper reader viewer guest patient subscriber employee seeker applicant "
        "traveller traveler tenant renter player listener student learner"
    ),
    "session": _words("session visit sid sess"),
    "item": _words(
        "item product sku doc document article lawyer lead job offer listing hotel movie song track "
        "video ad candidate restaurant property entity asin isbn hit result target object post recipe "
        "course book vendor seller provider expert clinic doctor pro ware goods"
    ),
    "position": _words("position rank pos slot index idx place ordinal"),
    "time": _words(
        "time timestamp ts at date datetime created occurred when epoch logged received instant moment millis ms"
    ),
    "event": _words("event eventid eid message msg msgid record"),
    "action": _words(
        "action interaction feedback outcome decision response verdict type event activity act "
        "reaction kind status what"
    ),
    "kind": _words("type event kind message name topic msg action eventtype etype"),
    "features": _words("features feature signals factors scores attributes inputs f x feats signal vector"),
    "leak": _words(
        "label labels relevance grade target outcome reward conversion converted clicked click clicks "
        "purchased bought ordered accepted declined rejected hired booked won lost dwell y"
    ),
}
"""Words of each role of a field."""

_SHOWN: Final = _words(
    "impression impressions shown show shows search searched results result ranking ranked rank "
    "recommendation recommendations recommend recommended match matches served exposure "
    "display displayed serp offered slate render rendered list listed suggestions"
)

_ANSWERED: Final = _words("feedback interaction interactions answer answered response responded reaction")

_WORTH: Final[tuple[tuple[int, tuple[str, ...]], ...]] = (
    (
        0,
        _words(
            "lost lose declin reject dislik skip hide hidden dismiss bounce unsubscri ignor refund return remove "
            "cancel not no spam report block negativ bad fail unlike withdraw withdrew expire"
        ),
    ),
    (
        3,
        _words(
            "purchas order bought buy checkout booked booking convert conversion hire won win sign deal subscri "
            "complet paid pay reserv transact contract enrol sold sale rent donat"
        ),
    ),
    (
        2,
        _words(
            "accept save fav like cart wishlist basket share contact apply applied call repl download "
            "shortlist interview bookmark follow inquir add quote interested rate positiv"
        ),
    ),
    (
        1,
        _words(
            "click view open tap hover expand detail select choose chose chosen preview read play watch visit look "
            "see seen land dwell"
        ),
    ),
)
"""How words of actions begin, by what these are worth; the first that fits counts."""


def words_of(name: str) -> list[str]:
    """Split a name into its words, in lower case.

    >>> words_of("addToCart"), words_of("lawyer_id")
    (['add', 'to', 'cart'], ['lawyer', 'id'])
    """
    return [word.lower() for word in _WORD.findall(name[:200])]


def is_called(path: Path, role: str) -> bool:
    """Tell whether a field has a usual name of a role; of ``visitor.id``, as of ``visitor_id``, it is the visitor's.

    >>> is_called(("visitor", "id"), "user"), is_called(("user_agent",), "user")
    (True, False)
    """
    words = [word for part in path for word in words_of(part)]
    while len(words) > 1 and words[-1] in _MADE_OF:
        words.pop()
    return bool(words) and words[-1] in NAMES[role]


def kind_leaning(kind: str) -> int:
    """Tell what the name of a kind of message leans to: 1 to what was shown, -1 to feedback, 0 to neither.

    The last word that says something decides; a view may be of a list or of an item.

    >>> kind_leaning("search.results"), kind_leaning("result_click"), kind_leaning("login")
    (1, -1, 0)
    """
    leanings = [_leaning(word) for word in words_of(kind) if not word.startswith("view")]
    said = [leaning for leaning in leanings if leaning]
    return said[-1] if said else -1 if "view" in kind.lower() else 0


def worth(action: str) -> int | None:
    """Propose the relevance of an action, from 0 to 3; None where its name says nothing.

    >>> worth("add_to_cart"), worth("not_interested"), worth("purchase"), worth("frob")
    (2, 0, 3, None)
    """
    words = words_of(action)
    for relevance, beginnings in _WORTH:
        if any(_fits(word, beginnings) for word in words):
            return relevance
    return None


def _leaning(word: str) -> int:
    if word in _SHOWN:
        return 1
    return -1 if word in _ANSWERED or any(_fits(word, beginnings) for _, beginnings in _WORTH) else 0


def _fits(word: str, beginnings: tuple[str, ...]) -> bool:
    return any(word == beginning or (len(beginning) > 3 and word.startswith(beginning)) for beginning in beginnings)
