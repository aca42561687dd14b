"""One function for each task of the nightly run: small JSON in, small JSON out.

Tasks hand each other only a reference (run, address, sha256, a few counts); the artefacts are files in the run's
folder, each written whole or not at all, so that tasks may run on different machines and be retried. A retried task
gives the same result: what the run reads is frozen in ``inputs.json`` when it starts, what it may publish is frozen in
``ltr_weights.json`` by the gate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import msgspec
import structlog

from ltr_pipeline.dataset.build import build
from ltr_pipeline.dataset.load import load_part
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.dataset.windows import Windows
from ltr_pipeline.errors import LtrError, NothingToLearnError, RegistryError, SettingsError
from ltr_pipeline.events.manifest import Landed, is_backfill, landed_dates, partitions_for
from ltr_pipeline.events.source import Source
from ltr_pipeline.gate import measure
from ltr_pipeline.gate.checks import Decision, decide
from ltr_pipeline.gate.document import frozen, weights_document
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.rivals import load_rival, rivals
from ltr_pipeline.ranker.train import Trained, check_parameters, train, untrained
from ltr_pipeline.report.outcome import REPORT, finish
from ltr_pipeline.runs import extract
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Inputs, Json, Outcome, Request, Run, logged, opened
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings, load_settings
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.documents import DOCUMENT
from ltr_pipeline.versions.registry import Registry

__all__ = [
    "build_dataset",
    "check_date",
    "evaluate_ranker",
    "extract_events",
    "keep_previous",
    "publish_weights",
    "quality_gate",
    "train_ranker",
]

log = structlog.get_logger(__name__)

MODEL = "model.txt"


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
        A `Request` as JSON.
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
    """
    settings = settings or load_settings()
    try:
        asked = msgspec.convert(request, Request)
    except msgspec.ValidationError as error:
        raise SettingsError(f"the run's parameters are wrong: {error}") from error
    moment = asked.moment.astimezone(dt.UTC)
    with logged(run_name(moment), settings, "extract_events") as run:
        Policy.from_variables(variables)
        check_parameters(settings.parameters)
        inputs = run.read_if_there("inputs.json", Inputs) or _freeze(run, moment, asked, source)
        if asked.window_days not in (None, inputs.window_days):
            raise SettingsError(
                f"the Param window_days is {asked.window_days}, but run {run.name} was frozen with "
                f"{inputs.window_days}; leave it out to repeat the run"
            )
        inputs = msgspec.structs.replace(inputs, dry_run=asked.dry_run)
        landed = dict(msgspec.to_builtins(inputs.landed)) if inputs.landed else {}
        log.info("inputs frozen", partitions=len(inputs.partitions), champion=inputs.champion, **landed)
        return run.write("inputs.json", inputs, counts=landed)


def _freeze(run: Run, moment: dt.datetime, asked: Request, source: Source | None) -> Inputs:
    settings, date = run.settings, moment.date()
    window_days = settings.window_days if asked.window_days is None else asked.window_days
    _check_days(date, window_days, settings)
    start = _windows(date, window_days, settings, Policy()).start
    landed = None
    if not is_backfill(settings.data, date):
        manifest = extract.land(settings, date, start, last_try=asked.last_try, source=source)
        landed = Landed.of(manifest)
    champion, best_recent = rivals(settings.registry, moment)
    return Inputs(
        run=run.name,
        date=date,
        window_days=window_days,
        dry_run=asked.dry_run,
        partitions=partitions_for(settings.data, date, start),
        landed=landed,
        champion=champion,
        best_recent=best_recent,
    )


def _check_days(date: dt.date, window_days: int, settings: Settings) -> None:
    """Refuse a window without training days, and a date that would make every night until then a backfill."""
    held_out = settings.attribution_days + settings.test_days + settings.valid_days
    if window_days <= held_out:
        raise SettingsError(f"the Param window_days is {window_days}, but {held_out} days are held out; use more")
    check_date(date, settings)


def check_date(date: dt.date, settings: Settings) -> None:
    """Refuse a date that has not come; SettingsError says which is the newest that can be run."""
    landed = landed_dates(settings.data)
    newest = max([dt.datetime.now(dt.UTC).date(), *landed[-1:]]) + dt.timedelta(days=1)
    if date > newest:
        raise SettingsError(f"the run's date {date} has not come: the newest that can be run is {newest}")


def _windows(date: dt.date, window_days: int, settings: Settings, policy: Policy) -> Windows:
    return Windows(
        cutoff=dt.datetime.combine(date, dt.time(), dt.UTC),
        window_days=window_days,
        attribution_days=settings.attribution_days,
        test_days=settings.test_days,
        valid_days=settings.valid_days,
        min_queries=policy.min_queries,
    )


def build_dataset(inputs: Json, variables: Mapping[str, str], settings: Settings | None = None) -> Json:
    """Label what has landed and split it by time.

    Raises
    ------
    DatasetError
        The window or the landed tables contradict the settings.
    """
    settings = settings or load_settings()
    reference = opened(inputs)
    with logged(reference.run, settings, "build_dataset") as run:
        asked = run.verified("inputs.json", reference, Inputs)
        manifest = build(
            settings.data,
            run.key("dataset"),
            asked.partitions,
            settings.mapping,
            _windows(asked.date, asked.window_days, settings, Policy.from_variables(variables)),
        )
        counts = {"train": manifest.train.rows, "valid": manifest.valid.rows, "test": manifest.test.rows}
        log.info("dataset built", **counts)
        return run.write("dataset.json", manifest, counts=counts)


def train_ranker(built: Json, settings: Settings | None = None) -> Json:
    """Train LambdaMART on the training days, stopping early on the validation days.

    Where there is nothing to learn from, there is no model, and the gate will keep the former one.

    Raises
    ------
    RankerError
        LightGBM refuses to train.
    """
    settings = settings or load_settings()
    reference = opened(built)
    with logged(reference.run, settings, "train_ranker") as run:
        manifest = run.verified("dataset.json", reference, DatasetManifest)
        try:
            text, trained = train(
                load_part(settings.data, run.key("dataset"), manifest, "train", ids=()),
                load_part(settings.data, run.key("dataset"), manifest, "valid", ids=()),
                parameters=settings.parameters,
                max_relevance=settings.mapping.max_relevance,
                seed=settings.seed,
                threads=settings.threads,
                debias=settings.debias,
            )
        except NothingToLearnError as error:
            log.info("nothing to learn from", reason=str(error))
            text, trained = untrained(error)
        run.storage.put(run.key(MODEL), text.encode())
        log.info("ranker trained", trees=trained.trees, seconds=round(trained.seconds, 2))
        return run.write("trained.json", trained, counts={"trees": trained.trees})


def evaluate_ranker(trained: Json, settings: Settings | None = None) -> Json:
    """Measure the challenger, its rivals and the baselines on the test days.

    Raises
    ------
    RankerError
        The model cannot be loaded or scores NaN.
    """
    settings = settings or load_settings()
    reference = opened(trained)
    with logged(reference.run, settings, "evaluate_ranker") as run:
        found = _evidence(run, run.verified("trained.json", reference, Trained))
        log.info("ranker evaluated", ndcg_at_5=found.metrics.ndcg_at_5.value, test_queries=found.test_queries)
        return run.write("evidence.json", found, counts={"test_queries": found.test_queries})


def _evidence(run: Run, trained: Trained) -> Evidence:
    settings = run.settings
    manifest, inputs = run.read("dataset.json", DatasetManifest), run.read("inputs.json", Inputs)
    if trained.untrained:
        return measure.without_model(
            trained.untrained,
            train_impressions=manifest.train.rows,
            test_queries=manifest.test.eligible,
            landed=inputs.landed,
        )
    registry = settings.registry
    return measure.gather(
        load_part(settings.data, run.key("dataset"), manifest, "test"),
        Scorer.from_model(_model_text(run, trained), manifest.features),
        train_impressions=manifest.train.rows,
        trained_on=load_part(settings.data, run.key("dataset"), manifest, "train", ids=measure.TRAINED_ON).ids,
        landed=inputs.landed,
        champion=load_rival(registry, inputs.champion),
        best_recent=load_rival(registry, inputs.best_recent),
        legacy_weights=settings.mapping.legacy_weights,
        min_queries=manifest.windows.min_queries,
        seed=settings.seed,
    )


def _model_text(run: Run, trained: Trained) -> str:
    """Model that `trained` tells of."""
    return run.verified_bytes(MODEL, trained.model_sha256).decode()


def quality_gate(evaluated: Json, variables: Mapping[str, str], settings: Settings | None = None) -> Json:
    """Judge the evidence and freeze the document that may be published.

    The document of an earlier attempt stays when it is the same result judged the same way, so that a retried
    publish publishes the same bytes.

    Raises
    ------
    SettingsError
        A Variable has a wrong value.
    """
    settings = settings or load_settings()
    reference = opened(evaluated)
    with logged(reference.run, settings, "quality_gate") as run:
        found = run.verified("evidence.json", reference, Evidence)
        inputs = run.read("inputs.json", Inputs)
        policy = Policy.from_variables(variables)
        if inputs.dry_run:
            policy = msgspec.structs.replace(policy, gate_mode="dry_run")
        decision = decide(found, policy)
        manifest = run.read("dataset.json", DatasetManifest)
        if found.trees and manifest.test.rankings:  # else there is nothing to publish, and the gate keeps
            run.storage.put(run.key(DOCUMENT), _frozen_document(run, manifest, found, decision))
        log.info("gate decided", verdict=decision.verdict, reasons=decision.reasons)
        return run.write("decision.json", decision, verdict=decision.verdict)


def _frozen_document(run: Run, manifest: DatasetManifest, found: Evidence, decision: Decision) -> bytes:
    trained = run.read("trained.json", Trained)
    new = weights_document(
        run.name,
        _model_text(run, trained),
        mapping=run.settings.mapping,
        manifest=manifest,
        test=load_part(run.storage, run.key("dataset"), manifest, "test"),
        trained=trained,
        found=found,
        decision=decision,
        seed=run.settings.seed,
    )
    former = run.storage.get(run.key(DOCUMENT)) if run.storage.exists(run.key(DOCUMENT)) else None
    return frozen(former, new, run.settings.registry.documents.keys)


def publish_weights(judged: Json, who: str, settings: Settings | None = None) -> Json:
    """Publish the frozen document, byte for byte, and write the report.

    Parameters
    ----------
    judged
        Reference to the decision.
    who
        For the ledger; the same for every try of one run, so that a retry finds what the first try did.

    Returns
    -------
    What this publish did, as an `Outcome` in JSON, with the version's metrics for those who follow the Asset. The run's
    ``outcome.json`` is that of the first publish of its version.

    Raises
    ------
    RegistryError
        The gate's verdict is not "publish".
    WeightsError
        The document does not score here as it did when it was frozen.
    """
    settings = settings or load_settings()
    reference = opened(judged)
    with logged(reference.run, settings, "publish_weights") as run:
        decision = run.verified("decision.json", reference, Decision)
        if decision.verdict != "publish":
            raise RegistryError(f"run {run.name} was judged {decision.verdict!r}, so it is not published")
        registry = settings.registry
        document = weights.decode(
            run.storage.get(run.key(DOCUMENT)), where=run.storage.uri(run.key(DOCUMENT)), keys=registry.documents.keys
        )
        published = registry.publish(
            document, who=who, why="passed the gate", move_id=f"{who}:{run.name}:{document.identity}"
        )
        outcome = Outcome(run=run.name, latest=registry.promoted(), **msgspec.structs.asdict(published))
        log.info("weights published", version=published.version, moved=published.moved, reason=published.reason)
        page = finish(run, _first_outcome(run, outcome))
        registry.documents.attach(published.version, REPORT, page)
        _prune(registry, who, settings.keep_versions)
        metrics = {name: estimate["value"] for name, estimate in document.metrics.items()}
        return {**msgspec.to_builtins(outcome), "metrics": metrics}


def _first_outcome(run: Run, outcome: Outcome) -> Outcome:
    """The outcome of whoever published this version first: to publish it again changes nothing, so it stays."""
    former = run.read_if_readable("outcome.json", Outcome)
    return former if former and former.version == outcome.version else outcome


def _prune(registry: Registry, who: str, keep: int | None) -> None:
    """Remove old versions, if that is wanted; what cannot be removed now can be tomorrow."""
    if keep is not None:
        try:
            registry.prune(keep, who=who, why="LTR_KEEP_VERSIONS")
        except LtrError as error:
            log.warning("old versions were not pruned", error=str(error))


def keep_previous(judged: Json, settings: Settings | None = None) -> Json:
    """Leave ``latest`` where it is and write the report that says why."""
    settings = settings or load_settings()
    reference = opened(judged)
    with logged(reference.run, settings, "keep_previous") as run:
        decision = run.verified("decision.json", reference, Decision)
        latest = settings.registry.promoted()
        stays = f"{latest} stays in use" if latest else "nothing is published yet"
        outcome = Outcome(
            run=run.name, version=None, moved=False, latest=latest, reason=f"{stays}: {'; '.join(decision.reasons)}"
        )
        log.info("former model kept", latest=latest)
        finish(run, outcome)
        return dict(msgspec.to_builtins(outcome))
