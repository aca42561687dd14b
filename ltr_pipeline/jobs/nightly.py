"""One function for each task of the nightly run: small JSON in, small JSON out.

Tasks hand each other only a reference (run, address, sha256, a few counts); the artefacts are files in the run's
folder, each written whole or not at all, so that tasks may run on different machines and be retried. A retried task
gives the same result: what the run reads is frozen in ``inputs.json`` when it starts, what it may publish is frozen in
``ltr_weights.json`` by the gate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
import structlog

from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.features.source import Sources, checked
from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.errors import (
    LtrError,
    NothingToLearnError,
    RegistryError,
    SettingsError,
    UnknownVersionError,
    WeightsError,
)
from ltr_pipeline.events.source import Source
from ltr_pipeline.gate import measure
from ltr_pipeline.gate.approval import Answer, check_approvable, said
from ltr_pipeline.gate.audit import AUDITED, inspect
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.examples import NONE, Examples, choose
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.rivals import Rivals, load_rival
from ltr_pipeline.jobs.inputs import check_date, freeze, windows
from ltr_pipeline.jobs.judging import decided, model_text, part
from ltr_pipeline.metrics.audit import Gains
from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.metrics.slices import SegmentsBefore, UserSegments
from ltr_pipeline.monitoring.retrain import ASKED_FOR, Retrain
from ltr_pipeline.names import unknown_keys
from ltr_pipeline.ranker.data import preferences
from ltr_pipeline.ranker.train import Trained, check_parameters, train, untrained
from ltr_pipeline.report import diagnosis
from ltr_pipeline.report.artefacts import (
    DATASET,
    DECISION,
    EVIDENCE,
    EXAMPLES,
    INPUTS,
    MODEL,
    OUTCOME,
    REPORT,
    SEGMENTS,
    TABLES,
    TRAINED,
    WEIGHTS,
)
from ltr_pipeline.report.champion import alarm
from ltr_pipeline.report.history import remember_run
from ltr_pipeline.report.outcome import asking, heard, tell, write_outcome
from ltr_pipeline.runs.names import NIGHTS, run_name
from ltr_pipeline.runs.run import Inputs, Json, Outcome, Run, RunRequest, logged, opened, task
from ltr_pipeline.schema import QUERY_ID, USER_ID
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.registry import Registry

__all__ = [
    "asked_of",
    "build_dataset",
    "check_date",
    "evaluate_ranker",
    "extract_events",
    "keep_previous",
    "notify",
    "publish_weights",
    "quality_gate",
    "train_ranker",
    "trainer",
]

log = structlog.get_logger(__name__)


def extract_events(
    request: Json,
    variables: Mapping[str, str],
    settings: Settings | None = None,
    source: Source | None = None,
) -> Json:
    """Land what arrived since the last run, and freeze what this run reads.

    Everything a user can set is validated here, not after an hour of training.

    Parameters
    ----------
    request
        A `RunRequest` as JSON.
    variables
        The Airflow Variables of the gate that are set.
    source
        Where to read instead of the configured event log.

    Raises
    ------
    SettingsError
        A Variable, Param or environment variable has a wrong value.
    SourceError
        The events cannot be read, or the day was never landed.
    DatasetError
        A feature table of the mapping cannot be read.
    """
    asked = asked_of(request)
    moment = asked.moment.astimezone(dt.UTC)
    with logged(run_name(moment), settings, "extract_events") as run:
        Policy.from_variables(variables)
        rule = Retrain.from_variables(variables)
        check_parameters(run.settings.parameters, run.settings.mapping.model_features)
        for table in run.settings.mapping.feature_tables:
            checked(table, _sources(run.settings))
        inputs = run.read_if_there(INPUTS) or freeze(run, moment, asked, rule, source)
        if asked.window_days not in (None, inputs.window_days):
            raise SettingsError(
                f"the Param window_days is {asked.window_days}, but run {run.name} was frozen with "
                f"{inputs.window_days}; leave it out to repeat the run"
            )
        inputs = _asked_now(run, inputs, asked)
        landed = dict(msgspec.to_builtins(inputs.landed)) if inputs.landed else {}
        log.info("inputs frozen", partitions=len(inputs.partitions), champion=inputs.champion, **landed)
        log.info("training is due" if inputs.trains else "no training is due", because=inputs.because)
        return run.write(INPUTS, inputs, counts=landed)


def asked_of(request: Json) -> RunRequest:
    """Parse the request of a run; SettingsError names what is wrong in it."""
    try:
        return msgspec.convert(request, RunRequest)
    except msgspec.ValidationError as error:
        raise SettingsError(f"the run's parameters are wrong: {unknown_keys(error, RunRequest)}") from error


def _asked_now(run: Run, inputs: Inputs, asked: RunRequest) -> Inputs:
    """Return the inputs with what is asked of this repeat; who repeats a night that had not ended lent it a hand."""
    wanted = asked.retrain and not inputs.trains
    helped = asked.by_hand and run.read_if_readable(OUTCOME) is None
    return msgspec.structs.replace(
        inputs,
        dry_run=asked.dry_run,
        trains=inputs.trains or wanted,
        because=ASKED_FOR if wanted else inputs.because,
        by_hand=inputs.by_hand or helped,
    )


def build_dataset(inputs: Json, variables: Mapping[str, str], settings: Settings | None = None) -> Json:
    """Label what has landed and split it by time.

    Raises
    ------
    DatasetError
        The window or the landed tables contradict the settings.
    """
    with task("build_dataset", inputs, INPUTS, settings) as (run, asked):
        fewest = Policy.from_variables(variables).min_queries
        days = windows(asked.date, asked.window_days, run.settings, fewest, asked.occasions)
        partitions = {folder: asked.manifests.get(folder, "") for folder in asked.partitions}
        manifest = build(run.storage, run.key(TABLES), partitions, run.settings.mapping, days, _sources(run.settings))
        counts = {"train": manifest.train.rows, "valid": manifest.valid.rows, "test": manifest.test.rows}
        log.info("dataset built", **counts)
        return run.write(DATASET, manifest, counts=counts)


def _sources(settings: Settings) -> Sources:
    """Return how the mapping's feature tables are reached."""
    return Sources(settings.s3, settings.database)


def train_ranker(built: Json, settings: Settings | None = None) -> Json:
    """Train LambdaMART on the training days, stopping early on the validation days.

    Where the validation days prefer nothing, training rankings that are held out by query stand in. Where there is
    nothing to learn from, or no training is due, there is no model, and the gate will keep the former one.

    Raises
    ------
    RankerError
        LightGBM refuses to train.
    """
    with task("train_ranker", built, DATASET, settings) as (run, manifest):
        settings, inputs = run.settings, run.read(INPUTS)
        try:
            if not inputs.trains:
                return _written(run, *untrained(inputs.because, due=False))
            valid = part(run, manifest, "valid", ids=())
            learned = part(run, manifest, "train", ids=() if preferences(valid) else [QUERY_ID])
            text, trained = trainer(settings)(learned, valid, queries=_queries(learned))
        except NothingToLearnError as error:
            why = _with_cause(error, run)
            log.info("nothing to learn from", reason=why)
            text, trained = untrained(why)
        log.info("ranker trained", trees=trained.trees, seconds=round(trained.seconds, 2))
        return _written(run, text, trained)


def trainer(settings: Settings) -> Callable[..., tuple[str, Trained]]:
    """Return `ranker.train.train` as the settings have it; rankings are left to give."""
    return partial(
        train,
        parameters=settings.parameters,
        max_relevance=settings.mapping.max_relevance,
        positive=settings.mapping.least_positive,
        seed=settings.seed,
        threads=settings.threads,
        debias=settings.debias,
    )


def _written(run: Run, text: str, trained: Trained) -> Json:
    run.write(MODEL, text.encode())
    return run.write(TRAINED, trained, counts={"trees": trained.trees})


def _with_cause(error: NothingToLearnError, run: Run) -> str:
    """Say why there is nothing to learn, by what stands out in the events."""
    return ". ".join([str(error), *map(str, diagnosis.serious(diagnosis.of_run(run))[:1])])


def _queries(part: Dataset) -> list[str] | None:
    """Return the query of each ranking, where the queries were loaded."""
    return part.ids[QUERY_ID].gather(starts(part.group)).to_list() if QUERY_ID in part.ids else None


def evaluate_ranker(trained: Json, settings: Settings | None = None) -> Json:
    """Measure the challenger, its rivals and the baselines on the test days.

    Raises
    ------
    RankerError
        The model cannot be loaded or scores NaN.
    """
    with task("evaluate_ranker", trained, TRAINED, settings) as (run, model):
        found, seen = _evidence(run, model)
        run.write(EXAMPLES, seen)
        log.info("ranker evaluated", ndcg_at_5=found.metrics.ndcg_at_5.value, test_queries=found.test_queries)
        return run.write(EVIDENCE, found, counts={"test_queries": found.test_queries})


def _evidence(run: Run, trained: Trained) -> tuple[Evidence, Examples]:
    settings, manifest, inputs = run.settings, run.read(DATASET), run.read(INPUTS)
    learned, test = part(run, manifest, "train", ids=(*measure.TRAINED_ON, *AUDITED)), part(run, manifest, "test")
    days = measure.HeldOut(
        test=test,
        manifest=manifest,
        trained_on=learned.ids,
        seed=settings.seed,
        group_share_min=settings.group_share_min,
        user_segments=_user_segments(run, test, manifest.test.start.date()),
    )
    champion, legacy = load_rival(settings.registry, inputs.champion), settings.mapping.legacy_weights
    if trained.untrained:
        known = Rivals(champion=champion, legacy_weights=legacy)
        return measure.without_model(trained.untrained, days, known, inputs.landed, due=trained.due), NONE
    challenger = Scorer.from_model(model_text(run, trained), manifest.features)
    best_recent = load_rival(settings.registry, inputs.best_recent)
    published = Rivals(champion=champion, best_recent=best_recent, legacy_weights=legacy)
    gains = Gains(
        now=trained.importance,
        before=champion.importance if champion else None,
        vouched=settings.mapping.known_before,
    )
    joined = {name for use in manifest.feature_tables.values() for name in use.features}
    audit = inspect(learned, part(run, manifest, "valid", ids=AUDITED), test, gains, joined)
    contest = measure.Contest(days, challenger, published)
    found = measure.gather(contest, inputs.landed, audit, trained.linear, trained.calibration)
    return found, choose(contest)


def _user_segments(run: Run, test: Dataset, first_day: dt.date) -> UserSegments | None:
    """Freeze how engaged the users of the test days were before, or that this is not known."""
    known = run.read_if_there(SEGMENTS)
    if known is None:
        known = SegmentsBefore(segments=_segments_now(run.settings, test, first_day))
        run.write(SEGMENTS, known)
    return known.segments


def _segments_now(settings: Settings, test: Dataset, first_day: dt.date) -> UserSegments | None:
    """Look in the database; a night does without where that cannot be done."""
    file = settings.database.file
    if file and not file.exists():  # nothing is classified; the database's driver need not be installed
        return None
    try:
        from ltr_pipeline.jobs.segments import user_segments

        return user_segments(settings, first_day, test.ids[USER_ID])
    except LtrError as error:
        log.warning("the evaluation is not sliced by segments of users", error=str(error))
        return None


def quality_gate(evaluated: Json, variables: Mapping[str, str], settings: Settings | None = None) -> Json:
    """Judge the evidence and freeze the document that may be published.

    The document of an earlier attempt stays when it is the same result judged the same way, so that a retried
    publish publishes the same bytes.

    Raises
    ------
    SettingsError
        A Variable has a wrong value.
    """
    with task("quality_gate", evaluated, EVIDENCE, settings) as (run, found):
        return decided(run, found, Policy.from_variables(variables))


def publish_weights(judged: Json, who: str, settings: Settings | None = None) -> Json:
    """Publish the frozen document, byte for byte, and write the report.

    Parameters
    ----------
    judged
        Reference to the decision.
    who
        For the ledger; the same for every try of one run, so that a retry finds what the first try did. What somebody
        approved stands there under the name and for the reason of whom that was.

    Returns
    -------
    The outcome of this publish, an `Outcome` in JSON, with the address of the report, what is alarming about the
    version in use, and the version's metrics for those who follow the Asset. The run's ``outcome.json`` is that of the
    first publish of its version.

    Raises
    ------
    RegistryError
        The gate's verdict is not "publish", and nobody has approved this very decision.
    SourceError
        The document is no longer the one that was judged.
    WeightsError
        The document does not score here as it did when it was frozen.
    """
    with task("publish_weights", judged, DECISION, settings) as (run, decision):
        approval = _approval(run, decision)
        who, why = (approval.who, approval.why) if approval else (who, "passed the gate")
        registry = run.settings.registry
        data = run.verified(WEIGHTS, decision.document) if decision.document else run.read(WEIGHTS)
        document = weights.decode(data, where=run.uri(WEIGHTS), keys=registry.documents.keys)
        published = registry.publish(document, who=who, why=why, move_id=f"{who}:{run.name}:{document.identity}")
        fields = msgspec.structs.asdict(published)
        if approval:
            fields["reason"] += f"; {said(approval)}"
        outcome = Outcome(run=run.name, latest=registry.promoted(), **fields)
        log.info("weights published", version=published.version, moved=published.moved, reason=published.reason)
        page = write_outcome(run, _first_outcome(run, outcome))
        remember_run(run)
        registry.documents.attach(published.version, REPORT.name, page)
        if run.kind == NIGHTS:
            _prune(registry, who, run.settings.keep_versions)
        metrics = {name: estimate["value"] for name, estimate in document.metrics.items()}
        return {**_told(run, outcome, decision), "metrics": metrics, "mode": document.lineage.get("mode", "daily")}


def _approval(run: Run, decision: Decision) -> Answer | None:
    """Return the approval that publishes a run; None where the gate passed it."""
    if decision.verdict == "publish":
        return None
    answer = asking(run).answer()
    if answer is None or answer.choice != "publish":
        why = f": {said(answer)}" if answer else ""
        raise RegistryError(
            f"run {run.name} was judged {decision.verdict!r}, so it is not published without an approval of that very "
            f"decision{why}; `ltr approve {run.name}` with a reason gives one"
        )
    check_approvable(run.name, decision)
    return answer


def _told(run: Run, outcome: Outcome, decision: Decision) -> Json:
    unfair = alarm(decision, outcome.latest, outcome.version)
    urgent = unfair.what if unfair and unfair.raised else ""
    return {**msgspec.to_builtins(outcome), "report": run.uri(REPORT), "alarm": urgent}


def _first_outcome(run: Run, outcome: Outcome) -> Outcome:
    """Return the outcome of whoever published this version first; to publish it again changes nothing."""
    former = run.read_if_readable(OUTCOME)
    return former if former and former.version == outcome.version else outcome


def _prune(registry: Registry, who: str, keep: int | None) -> None:
    """Remove old refreshes, and old versions if that is wanted; what cannot be removed now can be tomorrow."""
    try:
        registry.prune(
            keep, who=who, why="hourly versions are kept for a week" if keep is None else "LTR_KEEP_VERSIONS"
        )
    except LtrError as error:
        log.warning("old versions were not pruned", error=str(error))


def keep_previous(judged: Json, settings: Settings | None = None) -> Json:
    """Leave ``latest`` where it is and write the report that says why; from a refresh it moves back to its parent.

    Where a person was to be asked, that is the answer, or why there is none. A run that somebody approved and published
    stays as it is.
    """
    with task("keep_previous", judged, DECISION, settings) as (run, decision):
        answer, former = asking(run).answer(), run.read_if_readable(OUTCOME)
        if answer and answer.choice == "publish" and former and former.version:
            return _told(run, former, decision)
        stays, latest = _former(run, decision)
        outcome = Outcome(
            run=run.name,
            version=None,
            moved=False,
            latest=latest,
            reason=f"{stays}: {'; '.join(filter(None, [heard(run, decision), *decision.reasons]))}",
            due=decision.due,
        )
        log.info("former model kept", latest=latest)
        write_outcome(run, outcome)
        remember_run(run)
        return _told(run, outcome, decision)


def _former(run: Run, decision: Decision) -> tuple[str, str | None]:
    """Say which version is in use after a run that was kept, for people and as its id: a night ends what was hourly."""
    registry, moved = run.settings.registry, None
    if run.kind == NIGHTS and decision.mode != "dry_run" and registry.promoted():
        who = f"run {run.name}"
        try:
            moved = registry.expire(
                Version.parse(run.name).time, who=who, why="the night was kept", move_id=f"{who}: expire"
            )
        except (WeightsError, UnknownVersionError) as error:
            log.warning("the refresh in use stays, as its parent cannot be used", error=str(error))
        _prune(registry, who, None)
    latest = registry.promoted()
    if moved and moved.to == latest:
        return f"latest moved back from {moved.before} to {latest}", latest
    return f"{latest} stays in use" if latest else "nothing is published yet", latest


def notify(judged: Json, settings: Settings | None = None) -> None:
    """Tell the channels how the run ended; a dead channel never fails it."""
    with logged(opened(judged).run, settings, "notify") as run:
        tell(run)
