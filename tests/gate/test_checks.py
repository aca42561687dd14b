"""Every status of every check, and the verdict table of docs/gate.md held equal to the code."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace

from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate.checks import leaks
from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.decision import Decision, blocks, decide
from ltr_pipeline.gate.evidence import Comparison, Evidence, Refreshed
from ltr_pipeline.gate.policy import VARIABLES, Policy
from ltr_pipeline.metrics.changes import Change
from ltr_pipeline.metrics.coins import CoinCheck
from ltr_pipeline.metrics.fairness import Fairness, Gap, corrected
from ltr_pipeline.metrics.outcomes import Told
from ltr_pipeline.metrics.quality import Delta, Estimate, Metrics
from ltr_pipeline.metrics.unbiased import UnbiasedDelta
from ltr_pipeline.scoring.latency import Latency
from support.nights import audited
from support.programs import CHECKOUT

READY = dt.date(2025, 7, 21)
DOCS = CHECKOUT / "docs" / "gate.md"


def estimate(value):
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return Estimate(value=value, low=low, high=high, n=300)


def metrics(value):
    return Metrics(
        ndcg_at_5=estimate(value), linear_ndcg_at_5=estimate(value), mrr=estimate(value), hit_at_3=estimate(value)
    )


def delta(value, half=0.005):
    return Delta(value=value, low=value - half, high=value + half, n=300)


def against(found, kind="champion", reason=""):
    return Comparison(version=None if kind == "none" else "20250714_0215", kind=kind, delta=found, reason=reason)


def by_coins(value, half=0.005):
    low, high, low_99 = (value + times * half for times in (-1, 1, -1.3))
    return UnbiasedDelta(value=value, low=low, high=high, low_99=low_99, n=1800, share=0.6 + value, other=0.6)


def coins(pairs=1500, p_value=0.4, clusters=200.0, possible=15_000):
    share = {"upper": pairs // 2, "low": 0.47, "high": 0.53} if pairs else {"upper": 0, "low": None, "high": None}
    return CoinCheck(
        rankings=pairs // 5, pairs=pairs, clusters=clusters, p_value=p_value, possible=possible, ready=READY, **share
    )


def gap(raw, noise=0.02, null_p95=0.04, p20=None, evaluable=True, upper=0.09, **more):
    return Fairness(
        configured=True,
        upper=upper,
        **more,
        evaluable=evaluable,
        reason="" if evaluable else "a group needs 30 rankings with a pair to compare; c has 3",
        gap=raw,
        low=raw - 0.01,
        high=raw + 0.01,
        noise=noise,
        corrected_gap=corrected(raw, noise),
        null_p95=null_p95,
        corrected_p20=corrected(raw, noise) - 0.01 if p20 is None else p20,
    )


def latency(p95):
    return Latency(
        p50_ms=1.0, p95_ms=p95, p99_ms=p95, requests=1000, candidates_p50=9, candidates_max=20, trees=70, cpu="x"
    )


def landed(read=1000, quarantined=1, impressions=700, feedback=200, lost=0):
    return Landed(
        records_read=read,
        records_quarantined=quarantined,
        impressions=impressions,
        feedback=feedback,
        records_lost=lost,
    )


GOOD = Evidence(
    trees=70,
    train_impressions=5000,
    test_queries=300,
    metrics=metrics(0.72),
    against_random=delta(0.2),
    champion=against(delta(0.01)),
    best_recent=against(delta(0.0), "best_recent"),
    fairness=gap(0.03),
    latency=latency(4.0),
    landed=landed(),
    audit=[audited("z", gain=1.0, was=1.0)],
    joinable=1000,
    unjoined=200,
)


def beside(found):
    """A refresh and its parent on fresh rankings."""
    return Refreshed(parent="20250714_0215", mode="refit", positives=900, delta=found, debiased=False)


def looking(**fields):
    """GOOD, but for what its only feature looks like."""
    return replace(GOOD, audit=[replace(GOOD.audit[0], **fields)])


KNOWS = Told(known=0.7, impressions=412, relevant=1.0, low=0.98, usual=0.3)

CASES = {
    ("ndcg_at_5", "pass"): GOOD,
    ("ndcg_at_5", "fail"): replace(GOOD, metrics=metrics(0.6499)),
    ("ndcg_at_5", "not_evaluable"): replace(GOOD, metrics=metrics(None)),
    ("beats_random", "pass"): GOOD,
    ("beats_random", "fail"): replace(GOOD, against_random=delta(0.014)),
    ("beats_random", "not_evaluable"): replace(GOOD, against_random=None),
    ("fairness_gap", "pass"): GOOD,
    ("fairness_gap", "fail"): replace(GOOD, fairness=gap(0.10)),
    ("fairness_gap", "inconclusive"): replace(GOOD, fairness=gap(0.10, p20=0.049)),
    ("fairness_gap", "not_evaluable"): replace(GOOD, fairness=gap(0.03, evaluable=False)),
    ("fairness_gap", "skipped"): replace(GOOD, fairness=Fairness(configured=False, evaluable=False, reason="none")),
    ("unknown_groups", "pass"): GOOD,
    ("unknown_groups", "fail"): replace(GOOD, fairness=gap(0.03, unknown_share=0.03, pooled_share=0.021, pooled=["c"])),
    ("unknown_groups", "skipped"): replace(GOOD, fairness=Fairness(configured=False, evaluable=False, reason="none")),
    ("latency_p95", "pass"): GOOD,
    ("latency_p95", "fail"): replace(GOOD, latency=latency(15.01)),
    ("latency_p95", "not_evaluable"): replace(GOOD, latency=None),
    ("trained", "pass"): GOOD,
    ("trained", "fail"): replace(GOOD, trees=0, untrained="there is no training ranking"),
    ("samples", "pass"): GOOD,
    ("samples", "fail"): replace(GOOD, train_impressions=99),
    ("queries", "pass"): GOOD,
    ("queries", "fail"): replace(GOOD, test_queries=99),
    ("champion", "pass"): GOOD,
    ("champion", "fail"): replace(GOOD, champion=against(delta(-0.011))),
    ("champion", "inconclusive"): replace(GOOD, champion=against(delta(-0.009))),
    ("champion", "not_evaluable"): replace(GOOD, champion=against(None, reason="a feature is gone")),
    ("champion", "skipped"): replace(GOOD, champion=against(None, "none", "nothing is published yet")),
    ("best_recent", "pass"): GOOD,
    ("best_recent", "fail"): replace(GOOD, best_recent=against(delta(-0.02), "best_recent")),
    ("best_recent", "inconclusive"): replace(GOOD, best_recent=against(delta(-0.005, 0.02), "best_recent")),
    ("best_recent", "not_evaluable"): replace(GOOD, best_recent=against(None, "best_recent", "trained on these days")),
    ("best_recent", "skipped"): replace(GOOD, best_recent=None),
    ("parent_delta", "pass"): replace(GOOD, refreshed=beside(delta(0.01))),
    ("parent_delta", "fail"): replace(GOOD, refreshed=beside(delta(-0.006))),
    ("parent_delta", "not_evaluable"): replace(GOOD, refreshed=beside(None)),
    ("coin", "pass"): replace(GOOD, coins=coins()),
    ("coin", "fail"): replace(GOOD, coins=coins(60, p_value=0.0009)),
    ("coin", "inconclusive"): replace(GOOD, coins=coins(60, p_value=0.0099)),
    ("coin", "skipped"): replace(GOOD, coins=coins(0)),
    ("unbiased_delta", "pass"): replace(GOOD, champion=replace(against(delta(0.01)), unbiased=by_coins(0.02))),
    ("unbiased_delta", "fail"): replace(GOOD, champion=replace(against(delta(0.01)), unbiased=by_coins(-0.02))),
    ("unbiased_delta", "skipped"): replace(
        GOOD, champion=replace(against(delta(0.01)), unbiased=by_coins(-0.02, 0.03))
    ),
    ("suspicious_gain", "pass"): GOOD,
    ("suspicious_gain", "inconclusive"): replace(GOOD, champion=against(delta(0.11))),
    ("suspicious_gain", "not_evaluable"): replace(GOOD, champion=against(None, reason="a feature is gone")),
    ("suspicious_gain", "skipped"): replace(GOOD, champion=against(None, "none", "nothing is published yet")),
    ("feature_audit", "pass"): GOOD,
    ("feature_audit", "fail"): looking(told=KNOWS),
    ("feature_audit", "inconclusive"): looking(gain=0.5, was=0.0),
    ("feature_audit", "skipped"): replace(GOOD, audit=[]),
    ("feature_change", "pass"): GOOD,
    ("feature_change", "fail"): looking(changes=[Change(day=dt.date(2025, 7, 12), distance=0.93, limit=0.11)]),
    ("feature_change", "skipped"): looking(changes=[]),
    ("fresh_events", "pass"): GOOD,
    ("fresh_events", "fail"): replace(GOOD, landed=landed(feedback=0)),
    ("fresh_events", "skipped"): replace(GOOD, landed=None),
    ("quarantined_share", "pass"): GOOD,
    ("quarantined_share", "fail"): replace(GOOD, landed=landed(quarantined=11)),
    ("quarantined_share", "not_evaluable"): replace(GOOD, landed=landed(0, 0, 0, 0)),
    ("quarantined_share", "skipped"): replace(GOOD, landed=None),
    ("lost_share", "pass"): replace(GOOD, landed=landed(lost=10)),
    ("lost_share", "fail"): replace(GOOD, landed=landed(lost=11)),
    ("lost_share", "skipped"): replace(GOOD, landed=None),
    ("unjoined_share", "pass"): GOOD,
    ("unjoined_share", "fail"): replace(GOOD, unjoined=201),
    ("unjoined_share", "skipped"): replace(GOOD, joinable=0, unjoined=0),
}

SETTINGS = {
    "default": {},
    "`ltr_on_inconclusive` = `publish`": {"on_inconclusive": "publish"},
    "`ltr_on_not_evaluable` = `publish`": {"on_not_evaluable": "publish"},
    "both": {"on_inconclusive": "publish", "on_not_evaluable": "publish"},
    "`ltr_gate_mode` = `dry_run`": {"gate_mode": "dry_run"},
}


def markdown_table(first_cell):
    """Rows of the table in docs/gate.md whose header starts with `first_cell`, as dictionaries."""
    lines = DOCS.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[start:] if line.startswith("|")]
    count = next(i for i, line in enumerate([*lines[start:], ""]) if not line.startswith("|"))
    header, _, *body = cells[:count]
    return [dict(zip(header, row, strict=True)) for row in body]


def status_of(decision, name):
    return next(check.status for check in decision.checks if check.name == name)


def reason_of(decision, name):
    return next(check.reason for check in decision.checks if check.name == name)


@pytest.mark.parametrize(("case", "evidence"), CASES.items(), ids=lambda c: "-".join(c) if isinstance(c, tuple) else "")
def test_each_status_of_each_check(case, evidence):
    assert status_of(decide(evidence, Policy()), case[0]) == case[1]


def test_verdict_table_of_the_docs_is_the_code():
    table = markdown_table("check")
    assert {(row["check"].strip("`"), row["status"].replace(" ", "_")) for row in table} == set(CASES)
    for row in table:
        name, status = row["check"].strip("`"), row["status"].replace(" ", "_")
        decision = decide(CASES[name, status], Policy())
        others = [check for check in decision.checks if check.name != name]
        only_this = all(check.status in ("pass", "skipped") for check in others)
        for heading, setting in SETTINGS.items():
            policy = Policy(**setting)
            said = "publish" if row[heading] == "publish" else "keep"
            assert said == ("keep" if policy.gate_mode == "dry_run" or blocks(status, policy) else "publish"), row
            if only_this:
                assert decide(CASES[name, status], policy).verdict == said, row


def test_variable_table_of_the_docs_is_the_code():
    rows = [(row["Variable"].strip("`"), row["default"], row["allowed"]) for row in markdown_table("Variable")]
    assert rows == [(variable.name, variable.default, variable.allowed) for variable in VARIABLES]


def test_a_good_challenger_is_published_without_a_reason_to_keep():
    decision = decide(GOOD, Policy())
    assert (decision.verdict, decision.reasons, decision.mode) == ("publish", [], "enforce")
    assert len({check.name for check in decision.checks}) == len(decision.checks)


def test_every_reason_to_keep_is_listed_in_plain_words():
    bad = replace(GOOD, metrics=metrics(0.6), champion=against(delta(-0.05)), train_impressions=50, latency=latency(20))
    assert decide(bad, Policy()).reasons == [
        "nDCG@5 is 0.600, below the minimum of 0.65",
        "ranking a request takes 20.00 ms at the 95th percentile, above the limit of 15 ms",
        "worse by more than 0.01: −0.050 nDCG@5 (95 % CI −0.055 to −0.045) against the champion 20250714_0215",
        "50 training impressions, below the minimum of 100",
    ]


def test_without_a_model_nothing_of_it_is_judged_and_no_setting_publishes():
    untrained = replace(GOOD, trees=0, untrained="there is no training ranking", train_impressions=0, test_queries=0)
    decision = decide(untrained, Policy(on_inconclusive="publish", on_not_evaluable="publish"))
    assert decision.verdict == "keep"
    assert decision.reasons[0] == "there is no training ranking"
    names = [check.name for check in decision.checks]
    of_the_data = ["fresh_events", "quarantined_share", "lost_share", "unjoined_share"]
    assert names == ["trained", "samples", "queries", *of_the_data]


RESTING = replace(
    GOOD,
    trees=0,
    untrained="it is young",
    due=False,
    metrics=metrics(None),
    champion=replace(against(None), metrics=metrics(0.71)),
    champion_fairness=gap(0.03),
    champion_latency=latency(4.0),
)


def test_where_no_training_was_due_the_version_in_use_and_the_events_are_judged():
    decision = decide(RESTING, Policy())
    assert (decision.verdict, decision.due, decision.reasons) == ("keep", False, ["not due: it is young"])
    assert [(check.name, check.status) for check in decision.checks] == [
        ("ndcg_at_5", "pass"),
        ("fairness_gap", "pass"),
        ("unknown_groups", "pass"),
        ("latency_p95", "pass"),
        ("queries", "pass"),
        ("fresh_events", "pass"),
        ("quarantined_share", "pass"),
        ("lost_share", "pass"),
        ("unjoined_share", "pass"),
    ]
    assert decision.champion.version == "20250714_0215"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"champion": replace(RESTING.champion, metrics=metrics(0.6))}, "nDCG@5 is 0.600, below the minimum of 0.65"),
        ({"champion_latency": latency(20)}, "takes 20.00 ms"),
        ({"champion_fairness": gap(0.2)}, "above the limit of 0.05"),
        ({"landed": landed(feedback=0)}, "0 feedback events arrived"),
        ({"unjoined": 201}, "belong to no impression"),
    ],
)
def test_what_fails_then_is_told_after_why_no_training_was_due(broken, says):
    first, failed = decide(replace(RESTING, **broken), Policy(gate_mode="dry_run")).reasons
    assert first == "not due: it is young"
    assert says in failed


def test_what_cannot_be_told_of_the_version_in_use_alarms_nobody():
    unknown = replace(
        RESTING, champion=against(None, reason="it is young"), champion_fairness=gap(0.03, evaluable=False)
    )
    decision = decide(unknown, Policy())
    assert decision.reasons == ["not due: it is young"]
    assert status_of(decision, "ndcg_at_5") == status_of(decision, "fairness_gap") == "not_evaluable"


def test_a_dry_run_never_publishes_and_says_what_it_would_do():
    policy = Policy(gate_mode="dry_run")
    good, bad = decide(GOOD, policy), decide(replace(GOOD, train_impressions=50), policy)
    assert (good.verdict, good.reasons, good.mode) == ("keep", ["dry run: would publish"], "dry_run")
    assert (bad.verdict, bad.reasons[0]) == ("keep", "dry run: would keep the former model")
    assert bad.reasons[1:] == ["50 training impressions, below the minimum of 100"]


@given(
    st.sampled_from([case for case in CASES if case[1] == "fail"]),
    st.sampled_from(["keep", "publish", "ask"]),
    st.sampled_from(["keep", "publish", "ask"]),
)
def test_a_fail_always_keeps(case, inconclusive, not_evaluable):
    policy = Policy(on_inconclusive=inconclusive, on_not_evaluable=not_evaluable)
    assert decide(CASES[case], policy).verdict == "keep"


@pytest.mark.parametrize(
    ("setting", "verdict"),
    [
        ({"on_inconclusive": "ask"}, "ask"),
        ({"on_inconclusive": "publish"}, "publish"),
        ({"on_not_evaluable": "ask"}, "keep"),  # says nothing of what is inconclusive
        ({"on_inconclusive": "ask", "gate_mode": "dry_run"}, "keep"),
    ],
)
def test_what_the_data_cannot_decide_is_left_to_a_person_where_the_policy_says_so(setting, verdict):
    undecided = replace(GOOD, champion=against(delta(-0.004, 0.02)))
    decision = decide(undecided, Policy(**setting))
    assert decision.verdict == verdict
    if verdict == "ask":
        assert [check.reason for check in decision.checks if check.name == "champion"] == decision.reasons
    if decision.mode == "dry_run":
        assert decision.reasons[0] == "dry run: would ask a person"


def test_a_check_that_keeps_outweighs_one_that_asks():
    both = replace(GOOD, champion=against(delta(-0.004, 0.02)), latency=latency(20))
    decision = decide(both, Policy(on_inconclusive="ask"))
    assert (decision.verdict, len(decision.reasons)) == ("keep", 2)


def test_a_refresh_that_is_not_shown_to_be_worse_than_its_parent_passes():
    for value, status in ((-0.004, "pass"), (-0.005, "pass"), (-0.0051, "fail")):
        assert status_of(decide(replace(GOOD, refreshed=beside(delta(value))), Policy()), "parent_delta") == status
    assert "parent_delta" not in {check.name for check in decide(GOOD, Policy()).checks}, "a night has no parent"


def test_who_asks_nobody_keeps_where_the_policy_asks():
    asks = Policy(on_inconclusive="ask", on_not_evaluable="ask")
    undecided = CASES["champion", "inconclusive"]
    assert (decide(undecided, asks).verdict, decide(undecided, asks.unasked()).verdict) == ("ask", "keep")
    publishes = Policy(on_inconclusive="publish", on_not_evaluable="ask").unasked()
    assert (publishes.on_inconclusive, publishes.on_not_evaluable) == ("publish", "keep")


def test_thresholds_are_inclusive_where_they_say_so():
    at = replace(
        GOOD,
        metrics=metrics(0.65),
        latency=latency(15.0),
        train_impressions=100,
        test_queries=100,
        fairness=gap(0.05, noise=0.0),
        landed=landed(9900, 99, lost=100),
    )
    assert decide(at, Policy()).verdict == "publish"


def test_the_interval_against_the_champion_must_exclude_a_loss_above_epsilon():
    strict = Policy(regression_max=0.02)
    for low, status in ((-0.0199, "pass"), (-0.02, "inconclusive")):
        found = replace(GOOD, champion=against(Delta(value=0.0, low=low, high=0.03, n=100)))
        assert status_of(decide(found, strict), "champion") == status
    likely = decide(replace(GOOD, champion=against(delta(-0.021, 0.05))), strict).reasons[0]
    sure = decide(replace(GOOD, champion=against(delta(-0.021, 0.0005))), strict).reasons[0]
    assert likely.startswith("probably worse by more than 0.02")
    assert sure.startswith("worse by more than 0.02")


def test_a_gain_that_might_be_a_leak_is_inconclusive():
    """Against a version the limit must be ruled out; against hand-set weights it must not be exceeded."""
    perhaps = delta(0.08, 0.03)
    version, weights = against(perhaps), against(perhaps, "legacy_linear")
    assert status_of(decide(replace(GOOD, champion=version), Policy()), "suspicious_gain") == "inconclusive"
    assert status_of(decide(replace(GOOD, champion=weights), Policy()), "suspicious_gain") == "pass"
    large = against(delta(0.12, 0.03), "legacy_linear")
    assert status_of(decide(replace(GOOD, champion=large), Policy()), "suspicious_gain") == "inconclusive"


def of(decision: Decision, name: str) -> Check:
    return next(check for check in decision.checks if check.name == name)


def test_the_coin_check_says_what_is_missing_and_from_when_on_it_would_be_there():
    assert reason_of(decide(replace(GOOD, coins=coins(0)), Policy()), "coin") == (
        "no test ranking was explored, and to clear a model takes 500 coin pairs: LTR_EXPLORE_SHARE=0.04 in the "
        "service would suffice, from 2025-07-21 on"
    )
    few = reason_of(decide(replace(GOOD, coins=coins(120, possible=300)), Policy()), "coin")
    assert few.startswith("there are only 120 coin pairs")
    assert "these test days have too few rankings" in few
    one = reason_of(decide(replace(GOOD, coins=coins(clusters=29.0)), Policy()), "coin")
    assert one == "1,500 coin pairs, but of too few users"
    assert status_of(decide(GOOD, Policy()), "coin") == "skipped"


@pytest.mark.parametrize("name", ["champion", "best_recent"])
@pytest.mark.parametrize(("value", "status"), [(0.02, "pass"), (-0.02, "fail")])
def test_where_coin_pairs_decide_clicks_are_advice(name, value, status):
    """They would have failed one way and passed the other."""
    found = replace(against(delta(-value), name), unbiased=by_coins(value))
    decision = decide(replace(GOOD, **{name: found}), Policy())
    assert (of(decision, "unbiased_delta").status, of(decision, name).status) == (status, "skipped")
    assert of(decision, name).observed == -value
    assert (decision.verdict == "publish") is (status == "pass")


def test_where_coin_pairs_cannot_decide_clicks_do():
    for value, half in ((-0.02, 0.03), (0.0, 0.03), (0.0, 0.009)):  # the last passes at 95 %, and not at 99 %
        found = replace(against(delta(-0.02)), unbiased=by_coins(value, half))
        decision = decide(replace(GOOD, champion=found), Policy())
        assert (of(decision, "unbiased_delta").status, of(decision, "champion").status) == ("skipped", "fail")


def test_the_worse_of_two_rivals_counts_by_coin_pairs():
    champion = replace(against(delta(0.01)), unbiased=by_coins(0.02))
    recent = replace(against(delta(0.01), "best_recent"), unbiased=by_coins(-0.02))
    decision = decide(replace(GOOD, champion=champion, best_recent=recent), Policy())
    assert of(decision, "unbiased_delta").observed == -0.02
    assert "the best version of the last 28 days" in of(decision, "unbiased_delta").reason


def doubt(coin_check, unbiased=None, audit=True):
    found = replace(GOOD, coins=coin_check, champion=replace(against(delta(0.2)), unbiased=unbiased))
    decision = decide(found, Policy())
    return leaks.doubt(of(decision, "coin"), of(decision, "unbiased_delta"), audit=audit)


def test_a_large_gain_is_cleared_by_coins_and_audit_together_and_by_nothing_less():
    assert doubt(coins()) == ""
    assert doubt(coins(), by_coins(-0.02, 0.03)) == ""  # too few to judge
    assert "worse" in doubt(coins(), by_coins(-0.02))
    assert "audit" in doubt(coins(), audit=False)
    assert "audited" in doubt(coins(), audit=None)
    assert "coin check" in doubt(coins(p_value=1e-6))
    assert "coin check" in doubt(coins(p_value=0.005))
    assert "LTR_EXPLORE_SHARE=0.04" in doubt(coins(0))
    large = replace(GOOD, coins=coins(), champion=against(delta(0.2)))
    assert status_of(decide(large, Policy()), "suspicious_gain") == "pass"
    assert status_of(decide(replace(large, audit=[]), Policy()), "suspicious_gain") == "inconclusive"
    cleared = leaks.suspicious_gain(against(delta(0.2)), Policy(), doubt="")
    assert (cleared.status, cleared.observed) == ("pass", 0.2)


@pytest.mark.parametrize(
    ("reached", "gain", "status"),
    [
        (0.70, 0.09, "pass"),  # of 0.30 that could be gained
        (0.85, 0.06, "pass"),
        (0.85, 0.08, "inconclusive"),  # more than half of 0.15
        (0.98, 0.012, "inconclusive"),
        (None, 0.09, "pass"),
    ],
)
def test_a_gain_is_held_against_what_could_be_gained(reached, gain, status):
    champion = replace(against(delta(gain, 0.001)), metrics=None if reached is None else metrics(reached))
    decision = decide(replace(GOOD, champion=champion), Policy())
    assert status_of(decision, "suspicious_gain") == status
    if status == "inconclusive":
        assert "raise ltr_suspicious_gain_share" in reason_of(decision, "suspicious_gain")


def test_a_held_limit_of_the_gain_stays_one():
    champion = replace(against(delta(0.08, 0.001)), metrics=metrics(0.5))
    for held, status in ((0.10, "pass"), (0.07, "inconclusive"), (1.0, "pass")):
        policy = Policy(suspicious_gain=held)
        assert status_of(decide(replace(GOOD, champion=champion), policy), "suspicious_gain") == status
    wide = Policy(suspicious_gain=0.07, suspicious_gain_share=1.0)
    assert "raise ltr_suspicious_gain" in reason_of(decide(replace(GOOD, champion=champion), wide), "suspicious_gain")


def test_features_are_named_with_what_speaks_against_them():
    knows = decide(CASES["feature_audit", "fail"], Policy())
    assert reason_of(knows, "feature_audit") == (
        "z knows the outcome: 412 test impressions have values that nearly only relevant ones had in training; 100 % "
        "of them are relevant, against 30 % of all, and 70 % of the relevant ones are among them"
    )
    sudden = decide(CASES["feature_audit", "inconclusive"], Policy())
    assert "50 % of the model's gain are its, and 0 % of the champion's" in reason_of(sudden, "feature_audit")
    broken = decide(CASES["feature_change", "fail"], Policy())
    assert "z changed on 2025-07-12" in reason_of(broken, "feature_change")
    change = Change(day=dt.date(2025, 7, 12), distance=0.5, limit=0.1)
    several = replace(GOOD, audit=[audited(str(n), gain=0.1, was=0.1, changes=[change]) for n in range(8)])
    assert reason_of(decide(several, Policy()), "feature_change").endswith("; so did 1, 2, 3, 4, 5 and 2 more")
    raised = decide(CASES["feature_change", "fail"], Policy(feature_change_max=1.0))
    assert status_of(raised, "feature_change") == "pass"


def test_a_gap_above_the_limit_is_named_even_when_another_group_is_too_thin():
    thin_and_unfair = replace(GOOD, fairness=gap(0.10, evaluable=False))
    assert status_of(decide(thin_and_unfair, Policy()), "fairness_gap") == "fail"


def test_a_gap_within_the_limit_passes_only_where_twice_the_limit_is_ruled_out():
    for upper, status in ((0.10, "pass"), (0.101, "inconclusive"), (None, "inconclusive")):
        check = next(
            c
            for c in decide(replace(GOOD, fairness=gap(0.03, upper=upper)), Policy()).checks
            if c.name == "fairness_gap"
        )
        assert check.status == status
    assert "more than 0.090 is ruled out" in reason_of(decide(GOOD, Policy()), "fairness_gap")


def test_each_kind_of_rankings_is_judged_and_the_worse_one_shown():
    unfair = Gap(kind="pure", gap=0.3, noise=0.02, corrected_gap=0.299, upper=0.4, null_p95=0.04, corrected_p20=0.25)
    decision = decide(replace(GOOD, fairness=gap(0.03, other=unfair)), Policy())
    assert status_of(decision, "fairness_gap") == "fail"
    assert "in pure rankings is 0.299" in reason_of(decision, "fairness_gap")


def test_fairness_shows_the_corrected_gap_with_the_corrected_interval():
    check = next(c for c in decide(GOOD, Policy()).checks if c.name == "fairness_gap")
    assert check.observed == pytest.approx((0.03**2 - 0.02**2) ** 0.5)
    assert (check.low, check.high) == (corrected(0.02, 0.02), corrected(0.04, 0.02))


def test_nothing_lost_is_no_loss_even_when_nothing_arrived():
    assert status_of(decide(replace(GOOD, landed=landed(0, 0, 0, 0)), Policy()), "lost_share") == "pass"


def test_records_survive_json():
    decision = decide(GOOD, Policy())
    assert json.decode(json.encode(decision), type=Decision) == decision
    assert json.decode(json.encode(GOOD), type=Evidence) == GOOD


def test_every_check_is_in_the_table():
    refreshed = replace(GOOD, refreshed=beside(delta(0.01)))
    assert {check.name for check in decide(refreshed, Policy()).checks} == {name for name, _ in CASES}


def test_the_latency_by_the_clock_stands_beside_the_one_that_is_judged():
    """A busy machine is no reason to keep a model; whoever reads the reason sees that it was busy."""
    for clock, judged in (("cpu", "of processor time"), ("wall", "undisturbed")):
        found = replace(GOOD, latency=replace(latency(0.24), clock=clock, wall_p95_ms=18.58))
        [check] = [check for check in decide(found, Policy()).checks if check.name == "latency_p95"]
        assert (check.status, check.observed) == ("pass", 0.24)
        assert f"takes 0.24 ms {judged} (18.58 ms by the clock) at the 95th percentile, within" in check.reason
    former = [check for check in decide(GOOD, Policy()).checks if check.name == "latency_p95"]
    assert "takes 4.00 ms at the 95th percentile" in former[0].reason


@pytest.mark.parametrize(("name", "status"), [case for case in CASES if case[0] == "fairness_gap"])
def test_the_champions_gap_is_judged_as_the_challengers_and_keeps_nothing_out(name, status):
    measured = CASES[name, status].fairness
    decision = decide(replace(GOOD, champion_fairness=measured), Policy())
    assert decision.champion.version == GOOD.champion.version
    assert decision.champion.fairness == of(decide(replace(GOOD, fairness=measured), Policy()), "fairness_gap")
    assert decision.champion.fairness.status == status
    assert (decision.verdict, decision.reasons) == ("publish", [])
    assert decision.checks == decide(GOOD, Policy()).checks


def test_without_a_champion_that_was_measured_nothing_is_said_of_it():
    assert decide(GOOD, Policy()).champion is None
    legacy = replace(GOOD, champion=against(delta(0.01), "legacy_linear"), champion_fairness=gap(0.1))
    assert decide(replace(legacy, champion=replace(legacy.champion, version=None)), Policy()).champion is None


def test_a_verdict_of_a_former_release_is_read():
    decision = decide(GOOD, Policy())
    former = json.decode(json.encode(decision))
    assert "champion" not in former  # so that a document without it is as small as before
    assert json.decode(json.encode(former), type=Decision) == decision
