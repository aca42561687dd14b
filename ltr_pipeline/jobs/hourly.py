"""The hourly refresh: the nightly model made new from what was answered in the last 24 hours, judged, and published.

It lands what has arrived, so that a change at noon need not wait for the night, and leaves the night alone: it reads
the night's artefacts and writes to a folder of its own, below ``refreshes/``. What it reads is frozen there when it
starts, and what it may publish is frozen by the gate, so that a task that is tried again gives the same result. It
never asks a person: what the gate cannot decide is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import structlog

from ltr_pipeline.dataset.build import build_fresh
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.dataset.load import Dataset, thinned
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.dataset.windows import Windows, since_test
from ltr_pipeline.errors import BusyError, DatasetError, LtrError, NotFoundError, NothingToLearnError
from ltr_pipeline.events.chain import arrived
from ltr_pipeline.events.manifest import Landed, account_of
from ltr_pipeline.events.partitions import Partition, is_backfill, landed_at
from ltr_pipeline.events.source import Source
from ltr_pipeline.events.worlds import check_one_world
from ltr_pipeline.gate import measure
from ltr_pipeline.gate import refresh as beside
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.rivals import Rival, Rivals, load_rival, rivals
from ltr_pipeline.jobs import chain
from ltr_pipeline.jobs.inputs import check_date, windows
from ltr_pipeline.jobs.judging import decided, part
from ltr_pipeline.jobs.nightly import asked_of, trainer
from ltr_pipeline.monitoring.records import NightRecord, RefreshRecord
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.ranker.data import Rows, joined
from ltr_pipeline.ranker.debias import examination
from ltr_pipeline.ranker.refresh import MOST_ROWS, check_enough, refit, refreshed
from ltr_pipeline.ranker.train import Trained
from ltr_pipeline.report.artefacts import (
    DATASET,
    DECISION,
    EVIDENCE,
    FRESH,
    INPUTS,
    MODEL,
    OUTCOME,
    SEGMENTS,
    TABLES,
    TRAINED,
)
from ltr_pipeline.report.history import remember_run
from ltr_pipeline.report.outcome import tell
from ltr_pipeline.runs import extract
from ltr_pipeline.runs.names import REFRESHES, moment_of, newest_judged, run_name
from ltr_pipeline.runs.run import Inputs, Json, Outcome, Run, RunRequest, logged
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings
from ltr_pipeline.storage.lease import Terms
from ltr_pipeline.versions.ids import Version
from ltr_pipeline.versions.weights import Weights

__all__ = ["refresh"]

log = structlog.get_logger(__name__)

DAY: Final = dt.timedelta(days=1)
KEPT_FOR: Final = 7 * DAY
"""Folders of refreshes that are older are removed, as are their versions."""

TERMS: Final = Terms(patience=60.0)
"""It waits a minute for another run that lands; an hour later there is another refresh."""

ALARMING: Final = ("quarantined_share", "lost_share", "unjoined_share")
"""Checks that say of the events, and not of a model, that something is wrong: somebody should hear of it now."""


def refresh(
    request: Json,
    variables: Mapping[str, str],
    who: str,
    settings: Settings | None = None,
    source: Source | None = None,
) -> Json:
    """Land what arrived, refresh the nightly model, judge it, and publish it or keep the former version.

    Parameters
    ----------
    request
        A `RunRequest` as JSON; a window of days and whether to train are of no meaning here.
    variables
        The Airflow Variables of the gate that are set.
    who
        For the ledger; the same for every try of one run.
    source
        Where to read instead of the configured event log.

    Returns
    -------
    The outcome, as `nightly.publish_weights` and `nightly.keep_previous` return it; without a report where there was
    nothing to judge.

    Raises
    ------
    SettingsError
        A Variable, Param or environment variable has a wrong value.
    SourceError, StorageError
        The events cannot be read, or the storage cannot.
    DatasetError, RankerError, RegistryError
        As the tasks of a night.
    """
    asked = asked_of(request)
    with logged(run_name(asked.moment), settings, "refresh_ranker", REFRESHES) as run:
        policy = Policy.from_variables(variables).unasked()
        try:
            judged = _judged(run, _inputs(run, asked, source), policy)
        except (NothingToLearnError, BusyError) as error:
            log.info("nothing was refreshed", reason=str(error))
            return _kept(run, str(error))
        outcome = chain.finish(judged, who, run.settings)
        _tell_what_is_new(run, outcome)
        _tidy(run)
        return outcome


def _inputs(run: Run, asked: RunRequest, source: Source | None) -> Inputs:
    """Freeze what the run reads, or return what an earlier try has frozen."""
    inputs = run.read_if_there(INPUTS) or _frozen(run, asked, source)
    inputs = msgspec.structs.replace(inputs, dry_run=asked.dry_run)
    run.write(INPUTS, inputs)
    return inputs


def _frozen(run: Run, asked: RunRequest, source: Source | None) -> Inputs:
    settings, moment = run.settings, _moment(run)
    check_date(moment.date(), settings)
    champion, best_recent = rivals(settings.registry, moment)
    head = settings.registry.ledger.head()
    if champion is None or head is None:
        raise NothingToLearnError("there is nothing to refresh: no night has published a version yet")
    if head.pin:
        raise NothingToLearnError(f"there is nothing to refresh: latest is pinned to {head.to} (`ltr unpin`)")
    night, manifest = _newest_night(settings)
    run.write(DATASET, manifest)
    _land(settings, moment, asked, source)
    occasions = tuple(settings.calendar.between(manifest.test.end.date(), moment.date()))
    days = since_test(manifest.windows, manifest.test.end, moment, occasions)
    partitions = arrived(settings.data, days.start - DAY, moment, settings.trusted_keys)
    lately = [folder for folder in partitions if Partition.of_folder(folder).moment > moment - DAY]
    return Inputs(
        run=run.name,
        date=moment.date(),
        window_days=days.window_days,
        dry_run=asked.dry_run,
        partitions=list(partitions),
        manifests=partitions,
        landed=Landed.of(account_of(settings.data, lately)),
        arrived=lately,
        champion=champion,
        best_recent=best_recent,
        simulated=settings.simulated,
        because=f"{champion} is refreshed every hour",
        by_hand=asked.by_hand,
        occasions=occasions,
        night=night,
        mode=settings.hourly_mode,
    )


def _newest_night(settings: Settings) -> tuple[str, DatasetManifest]:
    """Return the newest night that was judged, and its dataset, on whose test days the refresh is judged."""
    name = newest_judged(settings.data)
    manifest = Run(name, settings).read_if_readable(DATASET) if name else None
    if name is None or manifest is None or not manifest.test.rankings:
        raise NothingToLearnError("there is nothing to refresh: no night has test days to judge a refresh on")
    return name, manifest


def _land(settings: Settings, moment: dt.datetime, asked: RunRequest, source: Source | None) -> None:
    """Land what has arrived; not where a later run has, whose refresh knows more than this one would."""
    data, since = settings.data, windows(moment.date(), settings.window_days, settings).start
    check_one_world(data, since, settings.mapping, simulated=settings.simulated)
    if is_backfill(data, moment) and landed_at(data, moment) is None:
        raise NothingToLearnError("there is nothing to refresh: a later run has landed what arrived")
    extract.land(settings, moment, since, last_try=asked.last_try, source=source, terms=TERMS)


def _moment(run: Run) -> dt.datetime:
    return Version.parse(run.name).time


def _days(run: Run, inputs: Inputs, manifest: DatasetManifest) -> Windows:
    return since_test(manifest.windows, manifest.test.end, _moment(run), inputs.occasions)


@dataclass(frozen=True)
class _Night:
    """The parts of a night that a refresh needs: learned from, chosen by, and judged by."""

    run: Run
    manifest: DatasetManifest
    learned: Dataset
    valid: Dataset
    test: Dataset

    @classmethod
    def of(cls, run: Run, manifest: DatasetManifest) -> _Night:
        """Load the parts of a night; NothingToLearnError where its tables are gone or others by now."""
        try:
            return cls(
                run=run,
                manifest=manifest,
                learned=part(run, manifest, "train", ids=measure.TRAINED_ON),
                valid=part(run, manifest, "valid", ids=()),
                test=part(run, manifest, "test"),
            )
        except (DatasetError, NotFoundError) as error:
            raise NothingToLearnError(
                f"there is nothing to judge a refresh on: the tables of the night {run.name} are not there any more "
                f"({error}); the next night brings others"
            ) from error


@dataclass(frozen=True)
class _Made:
    """A refresh, and the recipe to make another of some of the fresh rankings."""

    text: str
    trained: Trained
    again: Callable[[Rows], str]


def _judged(run: Run, inputs: Inputs, policy: Policy) -> Json:
    """Make the refresh, measure it and judge it; return the reference to the decision."""
    settings, manifest = run.settings, run.read(DATASET)
    fresh_manifest = _built(run, inputs, manifest)
    fresh = part(run, fresh_manifest, "train")
    check_enough(fresh, settings.mapping.least_positive)
    if inputs.mode != "full":
        fresh = thinned(fresh, MOST_ROWS)
    parent, document = _parent(settings, inputs)
    night = _Night.of(Run(inputs.night or "", settings), manifest)
    made = (_trained if inputs.mode == "full" else _refit)(settings, document, fresh, night)
    run.write(MODEL, made.text.encode())
    run.write(TRAINED, made.trained)
    log.info("ranker refreshed", mode=inputs.mode, parent=inputs.champion, seconds=round(made.trained.seconds, 2))
    found = _evidence(run, inputs, parent, made, fresh_manifest, fresh, night)
    run.write(EVIDENCE, found)
    return decided(run, found, policy, test=night.test, fresh=fresh_manifest)


def _built(run: Run, inputs: Inputs, manifest: DatasetManifest) -> DatasetManifest:
    """Label the rankings that were answered lately; to train anew, all since the night's test days."""
    settings = run.settings
    lately = inputs.partitions if inputs.mode == "full" else inputs.arrived
    sources = Sources(settings.s3, settings.database)
    days = _days(run, inputs, manifest)
    fresh = build_fresh(run.storage, run.key(TABLES), inputs.manifests, lately, settings.mapping, days, sources)
    run.write(FRESH, fresh)
    return fresh


def _parent(settings: Settings, inputs: Inputs) -> tuple[Rival, Weights]:
    """Load the nightly version that is refreshed."""
    parent = load_rival(settings.registry, inputs.champion)
    if parent is None:
        raise NothingToLearnError(f"{inputs.champion}, which would be refreshed, cannot be used here; the log says why")
    return parent, settings.registry.documents.stored(parent.version).weights


def _refit(settings: Settings, document: Weights, fresh: Dataset, night: _Night) -> _Made:
    """Give the parent's trees new values."""
    how = partial(
        refit,
        threads=settings.threads,
        looked_at=examination(night.learned) if settings.debias == "coins" else (),
    )
    text, trained = refreshed(
        document.model.text,
        fresh,
        night.valid,
        parameters=document.lineage.get("parameters", {}),
        positive=settings.mapping.least_positive,
        **how.keywords,
    )
    return _Made(text, trained, partial(how, document.model.text))


def _trained(settings: Settings, document: Weights, fresh: Dataset, night: _Night) -> _Made:  # noqa: ARG001 - as _refit
    """Train anew on what the night learned from and what is fresh."""
    how = partial(trainer(settings), valid=night.valid)
    text, trained = how(joined(night.learned, fresh))
    return _Made(text, trained, lambda some: how(joined(night.learned, some))[0])


def _evidence(
    run: Run,
    inputs: Inputs,
    parent: Rival,
    made: _Made,
    fresh_manifest: DatasetManifest,
    fresh: Dataset,
    night: _Night,
) -> Evidence:
    """Measure the refresh on the night's test days, beside its parent and other rivals, and on the fresh rankings."""
    settings = run.settings
    known, judged = night.run.read_if_readable(SEGMENTS), night.run.read_if_readable(EVIDENCE)
    held_out = measure.HeldOut(
        test=night.test,
        manifest=night.manifest,
        trained_on=night.learned.ids,
        seed=settings.seed,
        group_share_min=settings.group_share_min,
        user_segments=known.segments if known else None,
    )
    published = Rivals(
        champion=parent,
        best_recent=load_rival(settings.registry, inputs.best_recent),
        legacy_weights=settings.mapping.legacy_weights,
    )
    contest = beside.contest(held_out, Scorer.from_model(made.text, night.manifest.features), published)
    against = beside.refreshed(
        parent.version,
        parent.scorer,
        fresh,
        made.again,
        mode=inputs.mode or "refit",
        positive=settings.mapping.least_positive,
        debiased=bool(made.trained.parameters.get("debias")),
    )
    audit = beside.audited(judged.audit if judged else [], made.trained.importance, parent.importance)
    return beside.gather(contest, inputs.landed, made.trained, fresh_manifest, against, audit)


def _kept(run: Run, why: str) -> Json:
    """Leave `latest` where it is, as there was nothing to judge; what an earlier try has published stays."""
    former = run.read_if_readable(OUTCOME)
    if former is None or former.version is None:
        latest = run.settings.registry.promoted()
        stays = f"{latest} stays in use: {why}" if latest else why
        former = Outcome(run=run.name, version=None, moved=False, latest=latest, reason=stays)
        run.write(OUTCOME, former)
        remember_run(run)
    _tidy(run)
    return {**msgspec.to_builtins(former), "report": "", "alarm": ""}


def _tell_what_is_new(run: Run, outcome: Json) -> None:
    """Tell the channels what is alarming, once: not each hour what the night or the hour before have told."""
    failed = {check.name for check in run.read(DECISION).checks if check.name in ALARMING and check.status == "fail"}
    if not failed:
        return
    try:
        known = _known_to_fail(run)
    except LtrError as error:
        log.warning("what was told before cannot be read", error=str(error))
        return
    if failed - known:
        log.warning("something is wrong with the events", checks=sorted(failed), report=outcome["report"])
        tell(run)


def _known_to_fail(run: Run) -> set[str]:
    """Return the checks that failed in the newest night, and in the newest refresh before this one."""
    history, today = History(run.settings.data), _moment(run).date()
    nights = history.read(NightRecord, today - DAY, today)
    refreshes = [one for one in history.read(RefreshRecord, today - DAY, today) if one.run < run.name and one.checks]
    told = [record.checks for records in (nights, refreshes) for record in records[-1:]]
    return {name for checks in told for name, status in checks.items() if status == "fail"}


def _tidy(run: Run) -> None:
    """Remove the tables of this refresh, which name users, and old folders; what cannot be removed now can be later."""
    oldest = (_moment(run) - KEPT_FOR).timestamp()
    try:
        for key in run.storage.keys(REFRESHES):
            name = key.split("/")[1]
            if (moment := moment_of(name)) is None:
                continue
            if moment < oldest or key.startswith(f"{run.key(TABLES)}/"):
                run.storage.delete(key)
    except LtrError as error:
        log.warning("old refreshes were not removed", error=str(error))
