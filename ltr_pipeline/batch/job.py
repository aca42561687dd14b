"""Scoring jobs, declared in a TOML file: which rows of which table are scored, and where the score goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from ltr_pipeline.errors import ScoringError
from ltr_pipeline.names import did_you_mean, unknown_keys

__all__ = ["DEFAULT", "Job", "RankJob", "ScoreJob", "When", "chosen", "load_jobs", "ranks"]

When = Literal["daily", "published"]
Name = Annotated[str, msgspec.Meta(min_length=1)]
Id = Literal["item_id", "user_id", "query_id"]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

LABELS: Final = {"hot": 70.0, "warm": 30.0, "cold": 0.0}
REJECTS_MAX: Final = 0.05


class ScoreJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="score"):
    """Fills a column of the rows that have no score.

    Attributes
    ----------
    table
        Name of the table, perhaps with its schema before a dot.
    key
        Column by which rows are told apart and paged: unique, never null.
    score
        Column that takes the score, 0 to 100; null = not scored yet.
    label, version, scored_at
        Columns that take the label, the model's version and the moment, if there are any.
    features
        Column by feature of the model; a feature that is left out is missing.
    features_sql
        In place of `features`: a SELECT over the keys of one batch (``:keys``), whose columns are the key and
        features by their names.
    ids
        Column by id (``item_id``, ``user_id``, ``query_id``), by which the mapping's feature tables are joined. The id
        whose column is `key` says whose answers the scores are held against.
    labels
        Lowest score of each label.
    when
        Occasions on which the scheduled run does it.
    rescore
        Whether a newly published version scores rows anew that another one scored; it needs the column `version`.
    rejects_max
        Share of the rows from which on rows that cannot be scored make the run a failed one.
    """

    table: Name
    key: Name
    score: Name
    label: Name | None = None
    version: Name | None = None
    scored_at: Name | None = None
    features: dict[Name, Name] = {}
    features_sql: str | None = None
    ids: dict[Id, Name] = {}
    labels: dict[Name, float] = msgspec.field(default_factory=LABELS.copy)
    when: tuple[When, ...] = ("daily", "published")
    rescore: bool = False
    rejects_max: Share = REJECTS_MAX

    @property
    def kind(self) -> str:
        """Kind of the job, as the file names it."""
        return "score"

    @property
    def all_ids(self) -> Mapping[str, str]:
        """Column of each id that the rows have."""
        return {str(name): column for name, column in self.ids.items()}

    def problems(self) -> list[str]:
        """Say where the job contradicts itself."""
        found = []
        if bool(self.features) == bool(self.features_sql):
            found.append("give either features or features_sql")
        if self.features_sql and ":keys" not in self.features_sql:
            found.append("features_sql reads the whole table: say WHERE … IN :keys")
        if self.rescore and not self.version:
            found.append("rescore needs the column that version names, to know which rows another version scored")
        written = [name for name in (self.key, self.score, self.label, self.version, self.scored_at) if name]
        if len(set(written)) < len(written):
            found.append("key, score, label, version and scored_at have to be different columns")
        return found


class RankJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="rank"):
    """Orders the candidates of each query, and recommends the best.

    Attributes
    ----------
    table, sql
        Where candidates are, one row each: a table, or a SELECT.
    query, item
        Columns with the ids of query and item.
    features, labels, when, rejects_max
        As in `ScoreJob`.
    ids
        As there; query and item are known anyway.
    first
        Number of recommendations a query.
    reasons
        Number of features that are named as reasons.
    approval
        Whose answer recommendations wait for: that of people, or none, then they are approved at once.
    """

    table: Name | None = None
    sql: str | None = None
    query: Name = "query_id"
    item: Name = "item_id"
    features: dict[Name, Name]
    ids: dict[Id, Name] = {}
    labels: dict[Name, float] = msgspec.field(default_factory=LABELS.copy)
    first: Annotated[int, msgspec.Meta(ge=1)] = 10
    reasons: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    approval: Literal["people", "none"] = "people"
    when: tuple[When, ...] = ("daily", "published")
    rejects_max: Share = REJECTS_MAX

    @property
    def kind(self) -> str:
        """Kind of the job, as the file names it."""
        return "rank"

    @property
    def all_ids(self) -> Mapping[str, str]:
        """Column of each id that the candidates have."""
        others = {str(name): column for name, column in self.ids.items()}
        return {"query_id": self.query, "item_id": self.item, **others}

    def problems(self) -> list[str]:
        """Say where the job contradicts itself."""
        found = []
        if bool(self.table) == bool(self.sql):
            found.append("give either table or sql")
        if not self.features:
            found.append("give the features")
        return found


Job: TypeAlias = ScoreJob | RankJob

DEFAULT: Final = "default_scoring.toml"
"""The file of this package that declares jobs where ``LTR_SCORING`` names none."""


def load_jobs(path: Path | None) -> dict[str, Job]:
    """Read the jobs of a file, or those of the package without one, by name.

    Raises
    ------
    ScoringError
        The file cannot be read, or a job in it is wrong: which, and what is.
    """
    where = str(path) if path else f"ltr_pipeline/{DEFAULT}"
    try:
        text = path.read_text() if path else files("ltr_pipeline").joinpath(DEFAULT).read_text()
        declared = msgspec.toml.decode(text, type=dict[str, dict[str, object]])
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ScoringError(f"LTR_SCORING {where} cannot be read: {error}") from error
    if not declared:
        raise ScoringError(f"LTR_SCORING {where} declares no job; see docs/database.md")
    return {name: _job(name, given, where) for name, given in declared.items()}


def chosen(jobs: Mapping[str, Job], name: str | None, occasion: str | None = None) -> dict[str, Job]:
    """Return the job of a name, or all jobs of an occasion; ScoringError when there is none of that name."""
    if name is None:
        return {one: job for one, job in jobs.items() if occasion is None or occasion in job.when}
    if name not in jobs:
        raise ScoringError(f"there is no job {name}{did_you_mean(name, jobs) or '.'} The jobs are {', '.join(jobs)}")
    return {name: jobs[name]}


def ranks(labels: Mapping[str, float]) -> Sequence[tuple[float, str]]:
    """Return the labels with their lowest scores, highest first."""
    return sorted(((cut, label) for label, cut in labels.items()), reverse=True)


def _job(name: str, given: Mapping[str, object], where: str) -> Job:
    kind: type[Job] = RankJob if given.get("kind") == "rank" else ScoreJob
    try:
        job = msgspec.convert(given, type=ScoreJob | RankJob)
    except msgspec.ValidationError as error:
        raise ScoringError(f"{where}: job {name}: {unknown_keys(error, kind)}") from error
    if problems := job.problems():
        raise ScoringError(f"{where}: job {name}: {'; '.join(problems)}")
    return job
