"""Score the rows of people's database by the published version: jobs of ``LTR_SCORING``, each by its kind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from ltr_pipeline.batch.changing import Changing
from ltr_pipeline.batch.job import Job, RankJob, ScoreJob, chosen, load_jobs
from ltr_pipeline.batch.model import Model, published
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.batch.runs import Batch, Begun, Mode, Outcome, Tell
from ltr_pipeline.batch.score import score
from ltr_pipeline.batch.tables import TABLES
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import ready
from ltr_pipeline.dataset.features.source import Sources
from ltr_pipeline.errors import ScoringError
from ltr_pipeline.monitoring.records import BatchRun
from ltr_pipeline.monitoring.store import remember
from ltr_pipeline.settings import Settings, load_settings

__all__ = ["score_job", "score_rows", "scoring_jobs"]

log = structlog.get_logger(__name__)


def scoring_jobs(settings: Settings | None = None, occasion: str | None = None) -> list[str]:
    """Return the names of the jobs of an occasion, or of all; ScoringError when their file is wrong."""
    settings = settings or load_settings()
    return list(chosen(load_jobs(settings.scoring_path), None, occasion))


def score_job(name: str, occasion: str | None = None, settings: Settings | None = None) -> dict[str, Any]:
    """Do one job for a scheduled run, with a line in the log for each batch.

    Raises
    ------
    ScoringError
        The job is wrong, does not fit the table, or more rows than it allows cannot be scored.
    DatabaseError
        The database refuses, or stays away.
    """
    (outcome,) = score_rows(settings or load_settings(), name, occasion=occasion, tell=_logged)
    if not outcome.ok:
        raise ScoringError(f"job {name}: {outcome.reason}")
    found: dict[str, Any] = msgspec.to_builtins(outcome)
    return found


def score_rows(
    settings: Settings,
    name: str | None = None,
    *,
    occasion: str | None = None,
    whole: bool = False,
    again: str | None = None,
    dry_run: bool = False,
    tell: Tell = lambda _: None,
    done: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Do the job of a name, or all jobs, by the version that is published now.

    Parameters
    ----------
    occasion
        Why a scheduled run does it: then only jobs of that occasion are done, and a newly published version scores
        rows of other versions anew where the job says `rescore`.
    whole
        Also rows that have a score.
    again
        Version whose rows are scored anew.
    dry_run
        Look at everything, and write nothing.
    tell, done
        Are told how each job goes on, and what became of it.

    Raises
    ------
    ScoringError
        Nothing is published, or a job is wrong or does not fit its table.
    DatabaseError
        The database lacks our tables, refuses, or stays away.
    """
    jobs = chosen(load_jobs(settings.scoring_path), name, occasion)
    if whole and again:
        raise ScoringError("--all scores the rows of every version, --again those of one: give one of them")
    outcomes = []
    with Database(settings.database) as database:
        ready(database, [TABLES])
        model = published(settings.registry)
        if again == model.version:
            raise ScoringError(f"--again {again}: that is the published version itself; --all scores all rows anew")
        for one, job in jobs.items():
            mode = _mode(job, occasion, whole=whole, again=again)
            outcome = _scored(database, one, job, model, settings, mode, again, dry_run, tell)
            if outcome.run_id is not None:
                remember(settings.data, _record(outcome))
            done(outcome)
            outcomes.append(outcome)
    return outcomes


def _record(outcome: Outcome) -> BatchRun:
    """Return what the history keeps of a run."""
    return BatchRun(
        date=dt.datetime.now(dt.UTC).date(),
        job=outcome.job,
        run_id=outcome.run_id or 0,
        version=outcome.version,
        mode=outcome.mode,
        state="done" if outcome.ok else "rejected",
        rows=outcome.rows,
        rejected=outcome.rejected,
        batches=outcome.batches,
        seconds=round(outcome.seconds, 3),
        reason=outcome.reason,
    )


def _mode(job: Job, occasion: str | None, *, whole: bool, again: str | None) -> Mode:
    if again:
        return "again"
    if whole:
        return "all"
    return "stale" if occasion == "published" and isinstance(job, ScoreJob) and job.rescore else "unscored"


def _scored(
    database: Database,
    name: str,
    job: Job,
    model: Model,
    settings: Settings,
    mode: Mode,
    again: str | None,
    dry_run: bool,
    tell: Tell,
) -> Outcome:
    tables, sources = settings.mapping.feature_tables, Sources(settings.s3, settings.database)
    changing = Changing(tables, job.all_ids, [*job.features], dt.datetime.now(dt.UTC), sources)
    if isinstance(job, RankJob):
        return rank(
            database, name, job, model, size=settings.score_batch, tell=tell, changing=changing, dry_run=dry_run
        )
    return score(
        database,
        name,
        job,
        model,
        size=settings.score_batch,
        tell=tell,
        mode=mode,
        again=again,
        changing=changing,
        dry_run=dry_run,
    )


def _logged(what: Begun | Batch) -> None:
    log.info(str(what), job=what.job)
