"""What the history holds: a record for each judged night, day of drift, day of outcomes, batch run and segmentation.

Records are read by other releases than wrote them: a field that is added has a default, none is ever renamed, and what
a reader does not know it leaves out. Times are UTC.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

__all__ = [
    "KINDS",
    "Alert",
    "BatchRun",
    "Distribution",
    "DomainDrift",
    "DriftReport",
    "Fall",
    "FeatureDrift",
    "Figure",
    "Forecast",
    "MeasureDrift",
    "NightRecord",
    "Outcomes",
    "PostedMetrics",
    "Record",
    "Reference",
    "RefreshRecord",
    "SegmentsTrained",
]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval.

    Attributes
    ----------
    value
        None where there is nothing to make it of.
    low, high
        Ends of the interval; None where there is too little for one.
    n
        What it is a mean of: rankings, lists, ratings.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody should look at.

    Attributes
    ----------
    kind
        ``drift``, ``outcome``, ``early``, ``calibration`` or ``data``.
    subject
        A feature, a measure or a version.
    what
        A sentence with the figures.
    remedy
        What to do about it, in a sentence.
    """

    kind: Literal["drift", "outcome", "early", "calibration", "data"]
    subject: str
    what: str
    remedy: str = ""


class NightRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="night"):
    """A judged night.

    Attributes
    ----------
    run, date
        Its name and its day.
    trained, because
        Whether a challenger was trained, and why, or why not, in words.
    verdict
        ``publish`` or ``keep``, by the gate or by whom it asked; ``none`` where nothing was trained.
    version, moved, latest, champion
        What it published, if anything; whether ``latest`` moved there; where ``latest`` was afterwards and before.
    reason
        How it ended, in words.
    ndcg_at_5, delta
        The challenger's, and challenger minus champion.
    champion_ndcg_at_5
        The version in use, on the same test rankings.
    checks
        Status of each check of the gate, by name; those of the version in use where no training was due.
    limits
        Thresholds of the gate, by the name of the check.
    metrics
        Everything else that was measured, by name; all finite.
    impressions, feedback, quarantined
        What landed for it; 0 in a backfill.
    by_hand
        Whether somebody asked for it, instead of the schedule.
    simulated
        Whether its events were.
    dry_run
        Whether it only judged, and could publish nothing.
    asked
        Whether the gate left it to a person.
    answer, answered_by, answer_reason
        What came of that, in a sentence; by whom it was answered, and why. All are empty where nobody was asked and
        nobody has approved by hand what the gate had kept.
    """

    run: str
    date: dt.date
    verdict: Literal["publish", "keep", "none"]
    trained: bool = True
    because: str = ""
    version: str | None = None
    moved: bool = False
    latest: str | None = None
    champion: str | None = None
    reason: str = ""
    ndcg_at_5: Figure | None = None
    champion_ndcg_at_5: Figure | None = None
    delta: Figure | None = None
    checks: dict[str, str] = {}
    limits: dict[str, float] = {}
    metrics: dict[str, float] = {}
    impressions: int = 0
    feedback: int = 0
    quarantined: int = 0
    by_hand: bool = False
    simulated: bool = False
    dry_run: bool = False
    asked: bool = False
    answer: str = ""
    answered_by: str = ""
    answer_reason: str = ""


class RefreshRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="refresh"):
    """An hourly refresh.

    Attributes
    ----------
    run, date
        Its name and its day.
    verdict
        ``publish`` or ``keep``, by the gate; ``none`` where it was not judged, as there was nothing to refresh or
        another run was landing.
    parent, mode
        The nightly version that it was made from, and how: ``refit`` or ``full``; None where it did not get that far.
    version, moved, latest, reason
        As of a night.
    positives
        Positive answers to the rankings that it was made from.
    ndcg_at_5, delta
        Of the refresh on the test days of the newest night, and refresh minus parent there.
    fresh_delta
        Refresh minus parent on the fresh rankings.
    checks
        Status of each check of the gate, by name.
    impressions, feedback, quarantined
        What landed in the 24 hours up to it.
    simulated, dry_run
        As of a night.
    """

    run: str
    date: dt.date
    verdict: Literal["publish", "keep", "none"]
    parent: str | None = None
    mode: str | None = None
    version: str | None = None
    moved: bool = False
    latest: str | None = None
    reason: str = ""
    positives: int = 0
    ndcg_at_5: Figure | None = None
    delta: Figure | None = None
    fresh_delta: Figure | None = None
    checks: dict[str, str] = {}
    impressions: int = 0
    feedback: int = 0
    quarantined: int = 0
    simulated: bool = False
    dry_run: bool = False


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The days that a day is compared with.

    Attributes
    ----------
    name
        ``trailing`` (the 28 days before), ``weekday`` (the same weekday of the weeks before), or instead of that
        ``event`` (the days of the same declared event in former years).
    rows, rankings
        Impressions and shown lists of them.
    """

    name: Literal["trailing", "weekday", "event"]
    first: dt.date
    last: dt.date
    days: int
    rows: int
    rankings: int


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How the values of a feature are spread, for a graphic.

    Attributes
    ----------
    edges
        Inner edges of the bins, ascending; the first and the last bin are open.
    reference, current
        Share of each bin, ``len(edges) + 1`` of them, and then the share that is missing.
    """

    edges: list[float]
    reference: list[float]
    current: list[float]


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature differs from its references.

    Attributes
    ----------
    status
        ``fine``, ``alert``, or ``not_evaluable``; `reason` says why, or what is odd about it (new, vanished, constant).
    importance
        Share of the gain of the model in use that comes from it; None without a model.
    psi, ks
        Population stability index, its null mean subtracted, and Kolmogorov-Smirnov distance, by the reference's name.
    missing, reference_missing
        Share of rows without a value; the latter in the trailing reference.
    distribution
        Against the trailing reference.
    p
        Probability of a difference as large where nothing has changed, corrected for the tests of this feature; small
        in a feature that alerts, and alone no reason to: with many rows trifles are improbable, too.
    """

    name: str
    status: Literal["fine", "alert", "not_evaluable"]
    reason: str = ""
    importance: float | None = None
    psi: dict[str, float] = {}
    ks: dict[str, float] = {}
    missing: float | None = None
    reference_missing: float | None = None
    distribution: Distribution | None = None
    p: float | None = None


class DomainDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How well a classifier tells the day's rows from a reference's.

    Attributes
    ----------
    reference
        Its name.
    auc
        Area under the curve over rankings that the classifier was not trained on, with its interval.
    leading
        The features that tell them apart, with their share of the gain, most telling first.
    together
        The area where each value is known by its rank among its own side's alone, so that only what goes together
        differently tells them apart; None where `auc` gave no reason to look.
    """

    reference: str
    auc: Figure
    leading: dict[str, float] = {}
    together: Figure | None = None


class MeasureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How something beside the features differs from its references.

    Attributes
    ----------
    name
        ``labels``, ``positions``, ``list_length``, ``scores``, ``unavailable_share`` or ``joined_share``.
    current
        Its mean or share on the day; None where it is not known.
    reference
        The same of each reference, by name.
    distance
        PSI with its null mean subtracted of a distribution, or the difference of a share, by the reference's name.
    p
        As of a feature.
    """

    name: str
    status: Literal["fine", "alert", "not_evaluable"]
    reason: str = ""
    current: float | None = None
    reference: dict[str, float] = {}
    distance: dict[str, float] = {}
    p: float | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """The data of one day, beside its references.

    Attributes
    ----------
    status
        ``fine``, ``alert`` (both references say so) or ``not_evaluable``; `reason` says why.
    events
        Names of the declared events of that day.
    """

    date: dt.date
    status: Literal["fine", "alert", "not_evaluable"]
    reason: str = ""
    rows: int = 0
    rankings: int = 0
    references: list[Reference] = []
    features: list[FeatureDrift] = []
    domain: list[DomainDrift] = []
    measures: list[MeasureDrift] = []
    alerts: list[Alert] = []
    events: list[str] = []


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What scores in a database stated, beside what came of it.

    Attributes
    ----------
    rows
        Rows that a version gave a probability on that day, and that were shown, or shown something, before the
        attribution window was over: the others could not be answered.
    expected
        Sum of the probabilities of the rows.
    happened
        How many of them were answered positively.
    error
        ``|expected - happened| / happened``; None where nothing happened.
    scored
        Rows that it gave a probability, seen or not.
    chance
        Standard deviation of `happened` if every probability is right and the rows are independent.
    """

    rows: int
    expected: float
    happened: int
    error: float | None
    scored: int = 0
    chance: float = 0.0


class Fall(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a figure of the shown lists is below what it is held against.

    Attributes
    ----------
    figure
        ``ndcg_at_5``, ``hit_at_3``, ``conversion`` or ``satisfaction``.
    against
        ``usual`` (the days before) or ``promised`` (what the gate had measured).
    share
        ``1 - figure / what it is held against``; below 0 where it is above.
    low, high
        Its 95 % interval.
    """

    figure: str
    against: Literal["usual", "promised"]
    share: float
    low: float
    high: float


class Outcomes(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="outcomes"):
    """What people did with the lists that one version showed on one day.

    Attributes
    ----------
    date
        Day that the lists were shown on.
    version
        What ranked them: a version, ``legacy``, another policy that was logged, ``interleaved`` (two versions in one
        list), ``unknown`` (nothing was logged), or ``other`` (many policies of which each showed little).
    age_hours
        How old the feedback may be that is counted: 24 for an early look; matured is attribution days * 24.
    matured
        Whether the attribution window of all lists was over.
    lists, fallbacks
        Shown lists, and how many of them a version's fallback had to rank.
    ndcg_at_5, hit_at_3
        Of the shown order, over lists with two different grades and all positions.
    conversion
        Share of the lists with an answer of the highest relevance.
    satisfaction
        Mean rating, 1 to 5.
    promised
        nDCG@5 that the gate had measured for this version, before it was published; None in an early look.
    usual
        The same figures of the days before at the same age, by name.
    falls
        Each figure beside what it is held against.
    unplaced
        Lists without positions, of which no order is known.
    forecast
        Of rows that batch scoring gave a probability.
    status
        ``fine``, ``fell`` or ``not_evaluable``; `reason` says why.
    """

    date: dt.date
    version: str
    age_hours: float
    matured: bool
    lists: int
    fallbacks: int = 0
    ndcg_at_5: Figure | None = None
    hit_at_3: Figure | None = None
    conversion: Figure | None = None
    satisfaction: Figure | None = None
    promised: Figure | None = None
    usual: dict[str, Figure] = {}
    falls: list[Fall] = []
    unplaced: int = 0
    forecast: Forecast | None = None
    status: Literal["fine", "fell", "not_evaluable"] = "not_evaluable"
    reason: str = ""
    alerts: list[Alert] = []


class BatchRun(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="batch"):
    """A run of a batch scoring job."""

    date: dt.date
    job: str
    run_id: int
    version: str
    mode: str
    state: str
    rows: int
    rejected: int
    batches: int
    seconds: float
    reason: str = ""


class SegmentsTrained(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="segments"):
    """A segmentation that was trained.

    Attributes
    ----------
    in_use
        Whether it replaced the former one.
    agreement
        Adjusted Rand index with the former one; None where there was none.
    sizes
        Rows (an entity in a period) by label, the most engaged first.
    asked, answer, answered_by, answer_reason
        As of a night: whether a person was asked if it replaces the former one, and what came of that.
    """

    date: dt.date
    level: str
    version: int
    in_use: bool
    entities: int
    agreement: float | None = None
    silhouette: float | None = None
    sizes: dict[str, int] = {}
    said: str = ""
    asked: bool = False
    answer: str = ""
    answered_by: str = ""
    answer_reason: str = ""


class PostedMetrics(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="posted"):
    """Metrics that somebody posted to the service."""

    date: dt.date
    at: dt.datetime
    metrics: Annotated[dict[str, float], msgspec.Meta(max_length=50)]


Record: TypeAlias = NightRecord | RefreshRecord | DriftReport | Outcomes | BatchRun | SegmentsTrained | PostedMetrics

KINDS: Final[dict[str, type[Record]]] = {
    "nights": NightRecord,
    "refreshes": RefreshRecord,
    "drift": DriftReport,
    "outcomes": Outcomes,
    "batches": BatchRun,
    "segments": SegmentsTrained,
    "posted": PostedMetrics,
}
"""Folder of the history and what it holds."""
