"""The alarm of a night that shows the version in use to be unfair: the same sentences wherever they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:  # a sentence is written without loading what computes its figures
    from ltr_pipeline.gate.decision import Decision

__all__ = ["Alarm", "alarm"]

_REMEDY: Final = (
    "The next version that is published takes its place. Until then `ltr rollback` goes back to the one before, if it "
    "was fairer: `ltr show VERSION` has the gap that a version was published with. Fairness in the report shows which "
    "group is ranked worse."
)


class Alarm(NamedTuple):
    """A version that ranks groups of people unequally by more than the gate allows.

    Attributes
    ----------
    what, remedy
        What was found, with its figures, and what to do about it, in sentences.
    raised
        Whether it is in use; else a newer one has taken its place, and this is only news.
    """

    what: str
    remedy: str
    raised: bool

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}"


def alarm(decision: Decision, latest: str | None, version: str | None = None) -> Alarm | None:
    """Return what is to be said of the champion where the gate's rule says `fail` for it, else None.

    Parameters
    ----------
    latest
        The version in use after the run; None where that is not known.
    version
        What the run published, if anything.
    """
    champion = decision.champion
    if champion is None or champion.fairness.status != "fail":
        return None
    if latest not in (None, champion.version):
        what = f"{champion.version}, which was in use before, ranked groups of people unequally"
        remedy = f"{latest} has taken its place, so nothing needs to be done about it."
    else:
        what = f"{champion.version}, which is in use, ranks groups of people unequally"
        passed = f"{version} passed the gate: to use it, `ltr rollback {version}`, then `ltr unpin`."
        remedy = passed if version not in (None, champion.version) else _REMEDY
    return Alarm(f"{what}: {champion.fairness.reason}.", remedy, raised=latest in (None, champion.version))
