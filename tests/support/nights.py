"""Runs to report on: one for each way a night can end, with numbers that a real one could have."""

from __future__ import annotations

import datetime as dt
from typing import Any

from msgspec.structs import replace

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.features.snapshot import Snapshot
from ltr_pipeline.dataset.labels import Account
from ltr_pipeline.dataset.manifest import DatasetManifest, Part, TableUse
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.events.manifest import Landed, Manifest
from ltr_pipeline.events.source import Range
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.evidence import Comparison, Evidence, Fallback, Refreshed
from ltr_pipeline.gate.examples import Example, Examples, Kind, Place
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.changes import Change
from ltr_pipeline.metrics.coins import CoinCheck
from ltr_pipeline.metrics.fairness import Fairness, GroupAccuracy
from ltr_pipeline.metrics.outcomes import Defaults
from ltr_pipeline.metrics.quality import Delta, Estimate, Metrics
from ltr_pipeline.metrics.reliability import Bin, Reliability
from ltr_pipeline.metrics.slices import Slice
from ltr_pipeline.metrics.unbiased import Examination, UnbiasedDelta
from ltr_pipeline.ranker.train import Chooser, Trained
from ltr_pipeline.report.night import Night
from ltr_pipeline.scoring.latency import Latency
from support.documents import document

DAY = dt.timedelta(days=1)
DATE = dt.date(2025, 11, 20)
CUTOFF = dt.datetime(2025, 11, 20, tzinfo=dt.UTC)
FEATURES = ("A", "S", "T", "G", "Q", "U", "R", "C")


def estimate(value: float, half: float = 0.02, n: int = 1204) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n, excluded=312)


def metrics(ndcg: float) -> Metrics:
    return Metrics(
        ndcg_at_5=estimate(ndcg),
        linear_ndcg_at_5=estimate(ndcg + 0.03),
        mrr=estimate(ndcg + 0.05),
        hit_at_3=estimate(ndcg + 0.12),
    )


def delta(value: float, half: float = 0.009) -> Delta:
    return Delta(value=value, low=value - half, high=value + half, n=1204)


FAIR = Fairness(
    configured=True,
    evaluable=True,
    reason="",
    gap=0.031,
    low=0.012,
    high=0.058,
    noise=0.027,
    corrected_gap=0.015,
    upper=0.062,
    null_p95=0.044,
    corrected_p20=0.0,
    exposure_gap=0.04,
    unknown_share=0.012,
    groups=[
        GroupAccuracy(protected_group="a", accuracy=0.781, pairs=5210, rankings=911, exposure=1.02, ndcg_at_5=0.731),
        GroupAccuracy(protected_group="b", accuracy=0.750, pairs=3127, rankings=702, exposure=0.98, ndcg_at_5=0.712),
    ],
)

UNFAIR = replace(
    FAIR,
    gap=0.118,
    low=0.07,
    high=0.16,
    corrected_gap=0.115,
    upper=0.171,
    corrected_p20=0.08,
    groups=[
        replace(FAIR.groups[0], accuracy=0.804, ndcg_at_5=None),
        replace(FAIR.groups[1], accuracy=0.686, ndcg_at_5=None),
    ],
)


def audited(name: str, gain: float, was: float | None, **fields: object) -> FeatureAudit:
    """A feature that nothing speaks against."""
    honest = {
        "vouched": False,
        "alone": 0.45 + gain / 2,
        "falling": name == "U",
        "defaults": Defaults(value=0.0, relevant=0.02, other=0.031, by_age=[0.03, 0.028, 0.029], fading=0.0),
        "told": None,
        "changes": [Change(day=DATE - place * DAY, distance=0.02 * place, limit=0.14) for place in range(1, 6)],
    }
    return FeatureAudit(name=name, gain=gain, was=was, **(honest | fields))


GAINS = dict(zip(FEATURES, (0.31, 0.22, 0.14, 0.11, 0.1, 0.0, 0.08, 0.04), strict=True))
FORMER_GAINS = dict(zip(FEATURES, (0.29, 0.24, 0.13, 0.11, 0.1, 0.02, 0.07, 0.04), strict=True))

RELIABILITY = Reliability(
    positive=2,
    rows=14_448,
    relevant=955,
    error=0.011,
    bins=[
        Bin(stated=stated, observed=observed, rows=1445)
        for stated, observed in ((0.004, 0.006), (0.011, 0.009), (0.02, 0.028), (0.034, 0.03), (0.05, 0.064))
    ]
    + [
        Bin(stated=stated, observed=observed, rows=1445)
        for stated, observed in ((0.07, 0.066), (0.092, 0.083), (0.11, 0.131), (0.17, 0.15), (0.31, 0.334))
    ],
)

EVIDENCE = Evidence(
    trees=142,
    train_impressions=152_340,
    test_queries=1204,
    metrics=metrics(0.712),
    baselines={"random": metrics(0.488), "logged_order": metrics(0.641), "legacy_linear": metrics(0.655)},
    against_random=delta(0.224, 0.018),
    champion=Comparison(version="20251119_0215", kind="champion", metrics=metrics(0.704), delta=delta(0.008)),
    best_recent=Comparison(version="20251108_0215", kind="best_recent", metrics=metrics(0.709), delta=delta(0.003)),
    slices=[
        Slice(dimension="protected_group", value="a", ndcg_at_5=estimate(0.731, 0.028, 911), impressions=8120),
        Slice(dimension="protected_group", value="b", ndcg_at_5=estimate(0.712, 0.034, 702), impressions=5904),
        *(
            Slice(dimension="day_part", value=part, ndcg_at_5=estimate(value, half, n), impressions=12 * n)
            for part, value, half, n in (
                ("00-06", 0.689, 0.061, 98),
                ("06-12", 0.718, 0.033, 401),
                ("12-18", 0.709, 0.031, 463),
                ("18-24", 0.715, 0.042, 242),
            )
        ),
        *(
            Slice(dimension="day", value=f"2025-11-{day}", ndcg_at_5=estimate(0.7, 0.035, 401), impressions=4816)
            for day in (14, 15, 16)
        ),
        Slice(dimension="items", value="known", ndcg_at_5=estimate(0.715, 0.021, 1204), impressions=14_448),
        Slice(
            dimension="items",
            value="new",
            ndcg_at_5=Estimate(value=None, low=None, high=None, n=0, excluded=3),
            impressions=21,
            note="none of its rankings is eligible",
        ),
    ],
    fairness=FAIR,
    latency=Latency(
        p50_ms=0.41,
        p95_ms=0.68,
        p99_ms=1.12,
        requests=1000,
        candidates_p50=12,
        candidates_max=31,
        trees=142,
        cpu="Intel(R) Xeon(R) CPU @ 2.60GHz",
        turns=4,
        clock="cpu",
        wall_p50_ms=0.44,
        wall_p95_ms=1.91,
        wall_p99_ms=4.02,
        reference_p95_ms=0.12,
        reference_wall_p95_ms=0.31,
    ),
    landed=Landed(records_read=9120, records_quarantined=21, impressions=900, feedback=90),
    audit=[audited(name, gain, FORMER_GAINS[name]) for name, gain in GAINS.items()],
    fallback=Fallback(metrics=metrics(0.641), against_random=delta(0.153)),
    joinable=40_897,
    unjoined=179,
    reliability=RELIABILITY,
)

YESTERDAY = replace(
    EVIDENCE,
    train_impressions=150_011,
    test_queries=1188,
    metrics=metrics(0.706),
    landed=Landed(records_read=8754, records_quarantined=4, impressions=900, feedback=90),
)


def part(start: int, end: int, rows: int, missing: float = 0.02) -> Part:
    """Days `start` to `end` before the cutoff."""
    return Part(
        start=CUTOFF - start * DAY,
        end=CUTOFF - end * DAY,
        rows=rows,
        rankings=rows // 12,
        eligible=rows // 15,
        labels={"0": rows - rows // 8 - rows // 20 - rows // 60, "1": rows // 8, "2": rows // 20, "3": rows // 60},
        positions={"0": rows // 100} | {str(place): rows // (place + 9) for place in range(1, 25)},
        feature_missing=dict.fromkeys(FEATURES, 0.0) | {"T": missing},
    )


DATASET = DatasetManifest(
    windows=Windows(cutoff=CUTOFF, min_queries=100),
    features=list(FEATURES),
    buckets=16,
    impressions=Account(
        landed=197_412, used=177_910, duplicates=1_204, dropped={"immature": 16_904, "unavailable": 1_394}
    ),
    feedback=Account(
        landed=41_207, used=38_114, duplicates=310, dropped={"impression_dropped": 2_604, "too_late": 179}
    ),
    train=part(28, 8, 152_340),
    valid=part(8, 6, 11_122),
    test=part(6, 3, 14_448),
    vanished=["U"],
    appeared=[],
    tables={f"labelled-{bucket:03d}.parquet": f"{bucket:064x}" for bucket in range(16)},
)

TABLE_USE = TableUse(
    features=["G", "Q"],
    tolerance_days=30,
    snapshot=Snapshot(key="d/t.parquet", sha256="7e" * 32, rows=81_204, kept=52_118, future=311, unplaced=12),
    without=17_791,
)

LANDING = Manifest(
    date=DATE,
    range=Range(source="files", segments=()),
    since=CUTOFF - 28 * DAY,
    mapping_sha256="1c" * 32,
    buckets=16,
    read=9120,
    impressions=7411,
    feedback=1640,
    quarantined=21,
    ignored=48,
    quarantine_reasons={"not JSON": 14, "missing item_id": 7},
    ignored_reasons={"unrelated message": 48},
    first_time=CUTOFF - 2 * DAY,
    last_time=CUTOFF,
    unknown_features=["Z2"],
    unknown_kinds=["heartbeat"],
    files=[],
)

TRAINED = Trained(
    trees=142,
    importance=GAINS,
    valid_ndcg_at_5=0.719,
    parameters={"objective": "lambdarank", "learning_rate": 0.05, "num_leaves": 31},
    missing_rules=dict.fromkeys(FEATURES, "as zero") | {"T": "learned"},
    linear_weights=dict.fromkeys(FEATURES, 0.125),
    seconds=4.2,
    model_sha256="9f" * 32,
    chosen_by=Chooser(source="validation", rankings=412),
)

_FORMER = document("20251119_0215")
FORMER = replace(
    _FORMER,
    features=[replace(_FORMER.features[0], name=name) for name in FEATURES],
    model=replace(
        _FORMER.model,
        importance=FORMER_GAINS,
    ),
)


def example(
    kind: Kind, query: str, ndcg: float, rival: float, *places: tuple[str, int, int | None, int, int]
) -> Example:
    """Of places (item, rank, shown, rival, relevance)."""
    fields = ("item_id", "rank", "shown", "rival", "relevance")
    return Example(
        kind=kind,
        query_id=query,
        time=CUTOFF - 4 * DAY + dt.timedelta(hours=10.5),
        candidates=12,
        ndcg_at_5=ndcg,
        rival_ndcg_at_5=rival,
        places=[Place(**dict(zip(fields, place, strict=True))) for place in places],
    )


EXAMPLES = Examples(
    against="champion",
    version="20251119_0215",
    examples=[
        example(
            "better",
            "case-81",
            1.0,
            0.301,
            *((f"lawyer-{n}", n, 9 - n, 7 - n, 3 if n == 1 else 0) for n in range(1, 6)),
        ),
        example(
            "typical",
            "case-17",
            0.712,
            0.712,
            *((f"lawyer-{n}", n - 9, n - 9 if n < 14 else None, n - 9, n % 2) for n in range(10, 15)),
        ),
        example(
            "worse",
            "case-4",
            0.0,
            0.63,
            *((f"lawyer-{n}", n - 19, n - 18, n - 17, 0) for n in range(20, 25)),
            ("lawyer-31", 11, 1, 2, 2),
        ),
    ],
)

HASHES = {"model": "9f" * 32, "mapping": "1c" * 32}
LIBRARIES = {"lightgbm": "4.7.0", "ltr-pipeline": "0.1.0", "numpy": "2.4.6", "polars": "2.1.0", "pyarrow": "26.0.1"}


def night(evidence: Evidence | None = EVIDENCE, policy: Policy | None = None, **fields: object) -> Night:
    """A run in which everything happened."""
    run = "20251120_0215"
    published = {"version": run, "promoted": True, "latest": run}
    everything = {
        "run": run,
        "date": DATE,
        "landing": LANDING,
        "dataset": DATASET,
        "because": "every night",
        "trained": TRAINED,
        "evidence": evidence,
        "decision": decide(evidence, policy or Policy()) if evidence else None,
        "examples": EXAMPLES,
        "former": FORMER,
        "yesterday": YESTERDAY,
        "yesterday_dataset": replace(DATASET, train=part(28, 8, 150_011, missing=0.051)),
        "hashes": HASHES,
        "lineage": {"parent": "20251119_0215", "mode": "full"},
        "libraries": LIBRARIES,
    }
    return Night(**(everything | published | fields))


def rejected() -> Night:
    worse = replace(
        EVIDENCE,
        champion=replace(EVIDENCE.champion, delta=delta(-0.021), metrics=metrics(0.733)),
        fairness=UNFAIR,
    )
    return night(worse, version=None, promoted=False, latest="20251119_0215")


def unfair() -> Night:
    """The challenger is worse, and the champion, which stays in use, has become unfair."""
    worse = replace(
        EVIDENCE,
        champion=replace(EVIDENCE.champion, delta=delta(-0.021), metrics=metrics(0.733)),
        champion_fairness=UNFAIR,
    )
    return night(worse, version=None, promoted=False, latest="20251119_0215")


def untrained() -> Night:
    """There was nothing to learn from; the champion was measured all the same."""
    nothing = Estimate(value=None, low=None, high=None, n=0)
    none = Metrics(ndcg_at_5=nothing, linear_ndcg_at_5=nothing, mrr=nothing, hit_at_3=nothing)
    reason = "there is no model to compare"
    blank = Evidence(
        trees=0,
        untrained="there is no training ranking",
        train_impressions=0,
        test_queries=1204,
        metrics=none,
        against_random=None,
        champion=Comparison(version="20251119_0215", kind="champion", reason=reason),
        fairness=Fairness(configured=False, evaluable=False, reason=reason),
        latency=None,
        landed=EVIDENCE.landed,
        champion_fairness=UNFAIR,
    )
    return night(blank, version=None, promoted=False, latest="20251119_0215", trained=None, examples=None)


def not_due(**fields: Any) -> Night:
    """No training was due: the version in use was judged."""
    age = "the newest good model was trained 12 days ago, and one is due every 30 days"
    outcomes = "20251119_0215 fell short of its promise on none of its last 5 matured days (up to 2025-11-15)"
    because = f"{age}; {outcomes}"
    champion = Comparison(
        version="20251119_0215", kind="champion", reason="there is no model to compare", metrics=metrics(0.705)
    )
    resting = replace(
        untrained().evidence,
        untrained=because,
        due=False,
        train_impressions=EVIDENCE.train_impressions,
        champion=champion,
        champion_fairness=FAIR,
        champion_latency=EVIDENCE.latency,
        baselines=EVIDENCE.baselines,
        joinable=EVIDENCE.joinable,
        unjoined=EVIDENCE.unjoined,
    )
    known = {"version": None, "promoted": False, "latest": "20251119_0215", "trained": None, "examples": None}
    return night(replace(resting, **fields), because=because, **known)


UNSURE = replace(
    EVIDENCE,
    champion=replace(EVIDENCE.champion, delta=delta(-0.004, 0.02)),
    fairness=replace(FAIR, evaluable=False, reason="a group needs 30 rankings with a pair to compare; b has 12"),
)
ASK = Policy(on_inconclusive="ask", on_not_evaluable="ask")


def inconclusive() -> Night:
    return night(UNSURE, version=None, promoted=False, latest="20251119_0215")


def waiting() -> Night:
    """A person is asked, and has not answered."""
    return night(UNSURE, ASK, version=None, promoted=False, latest="20251119_0215", waits=True)


def approved() -> Night:
    """A person was asked, and published it."""
    return night(UNSURE, ASK, answer="approved by anna: <b>fifty lists</b> look `right`")


def unanswered() -> Night:
    """A person was asked, and nobody answered."""
    answer = "nobody answered within 90 minutes"
    return night(UNSURE, ASK, version=None, promoted=False, latest="20251119_0215", answer=answer)


def explored() -> Night:
    """Better than the champion by coin pairs, while clicks cannot tell."""
    champion = replace(
        EVIDENCE.champion,
        delta=delta(-0.004, 0.02),
        unbiased=UnbiasedDelta(
            value=0.061,
            low=0.032,
            high=0.09,
            low_99=0.022,
            n=1874,
            share=0.664,
            other=0.603,
            swapped=0.641,
            other_swapped=0.472,
        ),
    )
    coins = CoinCheck(
        rankings=402, pairs=2011, upper=1023, clusters=301.4, low=0.487, high=0.531, p_value=0.44, possible=6010
    )
    looked_at = [Examination(rank=rank, value=rank**-0.5, low=rank**-0.6, high=rank**-0.4) for rank in range(1, 13)]
    return night(replace(EVIDENCE, champion=champion, coins=coins, examination=looked_at))


REFRESHED = Refreshed(parent="20251119_0215", mode="refit", positives=1391, delta=delta(0.004, 0.006), debiased=False)


def refreshed() -> Night:
    """Made anew in an hour of the day."""
    trained = replace(
        TRAINED, chosen_by=None, parameters=TRAINED.parameters | {"refit_decay_rate": 0.9, "debias": False}
    )
    return night(replace(EVIDENCE, refreshed=REFRESHED), trained=trained)


def tabled() -> Night:
    """Two features are of a table with times."""
    return night(dataset=replace(DATASET, feature_tables={"profiles": TABLE_USE}))


OCCASIONS = (
    Occasion(name="Price war", first=dt.date(2025, 10, 20), last=dt.date(2025, 11, 1), weight=0.2),
    Occasion(name="Singles' Day", first=dt.date(2025, 11, 11), last=dt.date(2025, 11, 11), weight=0.0),
    Occasion(name="Proclamation", first=dt.date(2025, 11, 15), last=dt.date(2025, 11, 15)),
)


def declared() -> Night:
    """Some days of the window were no ordinary ones."""
    impressions = DATASET.impressions
    dropped = impressions.dropped | {"left_out": 9_000}
    return night(
        dataset=replace(
            DATASET,
            windows=replace(DATASET.windows, occasions=OCCASIONS),
            impressions=replace(impressions, used=impressions.used - 9_000, dropped=dropped),
        )
    )


def unexplored() -> Night:
    """No list was explored: the report says what share would do."""
    none = CoinCheck(
        rankings=0,
        pairs=0,
        upper=0,
        clusters=0,
        low=None,
        high=None,
        p_value=1,
        possible=6010,
        ready=DATE + 6 * DAY,
    )
    return night(replace(EVIDENCE, coins=none))


def pinned() -> Night:
    return night(promoted=False, latest="20251101_0215", note="latest is pinned; run ltr unpin to free it")


def first() -> Night:
    """No champion, no protected groups, no yesterday."""
    ungrouped = Fairness(
        configured=False, evaluable=False, reason="no impression has a protected group", unknown_share=1.0
    )
    alone = replace(
        EVIDENCE,
        champion=Comparison(version=None, kind="legacy_linear", metrics=metrics(0.655), delta=delta(0.057)),
        best_recent=None,
        fairness=ungrouped,
        slices=[],
    )
    shown = replace(EXAMPLES, against="logged_order", version=None)
    return night(alone, examples=shown, former=None, yesterday=None, yesterday_dataset=None)


def unjudgeable() -> Night:
    """A small team's quiet day: a dataset, but nothing in it is eligible."""
    nothing = Estimate(value=None, low=None, high=None, n=0, excluded=7)
    none = Metrics(ndcg_at_5=nothing, linear_ndcg_at_5=nothing, mrr=nothing, hit_at_3=nothing)
    reason = "20251119_0215 needs features that are gone: Z"
    blank = replace(
        EVIDENCE,
        test_queries=0,
        metrics=none,
        baselines={"random": none},
        against_random=None,
        champion=Comparison(version="20251119_0215", kind="champion", reason=reason),
        best_recent=None,
        slices=[],
        fairness=Fairness(configured=True, evaluable=False, reason="no ranking has a pair of two groups"),
        landed=None,
    )
    empty = replace(part(6, 3, 0), labels={}, positions={})
    dataset = replace(DATASET, test=empty, train=replace(DATASET.train, positions={}))
    return night(blank, version=None, promoted=False, latest="20251119_0215", dataset=dataset, examples=None)


def empty_day() -> Night:
    """Nothing landed, nothing was trained."""
    return Night(run="20251120_0215", date=DATE, latest="20251119_0215", note="nothing has landed for the window")


NIGHTS = {
    "published": night,
    "rejected": rejected,
    "unfair": unfair,
    "untrained": untrained,
    "not due": not_due,
    "not due, slow": lambda: not_due(champion_latency=replace(EVIDENCE.latency, p95_ms=17.0)),
    "inconclusive": inconclusive,
    "waiting": waiting,
    "approved": approved,
    "unanswered": unanswered,
    "explored": explored,
    "refreshed": refreshed,
    "unexplored": unexplored,
    "tabled": tabled,
    "declared": declared,
    "pinned": pinned,
    "first": first,
    "unjudgeable": unjudgeable,
    "empty day": empty_day,
}
