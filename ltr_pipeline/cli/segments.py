"""Segments of users and items: made, trained, classified and shown."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.markup import escape

from ltr_pipeline.cli.console import console, print_error, print_json, print_line, print_table
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.jobs import segments
from ltr_pipeline.report.wording import NONE
from ltr_pipeline.segments.outcome import ClassifiedLevel, ShownLevel
from ltr_pipeline.segments.store import CubeRow

__all__ = ["classify", "init", "show", "train"]


def init(dry_run: bool) -> None:
    """Make the tables, or print the statements that would."""
    settings = load_settings()
    statements = segments.init(settings, dry_run=dry_run)
    if dry_run:
        for statement in statements:
            console.print(f"{statement};\n", markup=False)
        return
    tables = "config.segment_parameters, config.segment_levels and config.segment_labels"
    print_line(f"{settings.database}: tables of segments are {'made' if statements else 'there'}")
    print_line(f"Periods, levels, features, weights and words are in {segments.table_names(settings, tables)}")


def train(replace: bool, as_json: bool) -> None:
    """Train, and print what came of each level; exit with 1 where the former model stays."""
    found = segments.train(load_settings(), replace=replace)
    if as_json:
        print_json(found)
    else:
        for level in found:
            labels = ", ".join(level.labels)
            print_line(level.said)
            print_line(
                f"  {level.entities:,} {level.level}s, {level.rows:,} rows, {level.seconds:.1f} s; segments: {labels}"
            )
    if not all(level.in_use for level in found):
        raise typer.Exit(1)


def classify(as_json: bool) -> None:
    """Classify, and print how many entities have which label."""
    found = segments.classify(load_settings())
    if as_json:
        print_json(found)
    else:
        for level in found.levels:
            print_line(_sentence(level))
        print_line(f"{found.rows:,} rows in {found.seconds:.1f} s; `ltr segments show` shows them")
    _tell(found.notices)


def show(as_json: bool) -> None:
    """Print the cube, level by level."""
    found = segments.show(load_settings())
    if as_json:
        print_json(found)
        return
    if not found.levels:
        print_line("No segments yet: `ltr segments train` makes models, `ltr segments classify` applies them.")
    for index, level in enumerate(found.levels):
        if index:
            console.print()
        _print(level)
    _tell(found.notices)


def _tell(notices: Sequence[str]) -> None:
    for notice in notices:
        print_error(f"notice: {notice}", "yellow")


def _sentence(level: ClassifiedLevel) -> str:
    counted = ", ".join(f"{count:,} {label}" for label, count in level.segments.items())
    return (
        f"{level.level}: {level.rows:,} rows of {level.periods} periods by model {level.model_version}; in the "
        f"{level.granularity} from {level.newest}: {counted}"
    )


def _print(level: ShownLevel) -> None:
    print_line(_title(level), "bold")
    if not level.rows:
        print_line("Nothing is classified: `ltr segments classify` does that.")
        return
    periods = sorted({row.period for row in level.rows})
    segment = dict.fromkeys((row.centroid_id, row.label) for row in level.rows)
    newest = sum(row.entities for row in level.rows if row.period == periods[-1])
    features = list(level.typical[0]) if level.typical else []
    header = ["Segment", *(f"{period}" for period in periods), "Share", *(f"Typical {name}" for name in features)]
    rows = []
    for centroid, label in sorted(segment):
        counts = [_count(level.rows, centroid, label, period) for period in periods]
        share = f"{100 * counts[-1] / newest:.0f} %"
        rows.append((escape(label), *(f"{count:,}" for count in counts), share, *_typical(level, centroid, features)))
    print_table(header, rows)


def _title(level: ShownLevel) -> str:
    if level.version is None or level.trained_at is None:
        return f"{level.level}: no model is in use"
    by = f" by {level.rows[0].granularity}" if level.rows else ""
    quality = NONE if level.silhouette is None else f"{level.silhouette:.2f}"
    return f"{level.level}{by}: model {level.version}, trained {level.trained_at:%Y-%m-%d}, silhouette {quality}"


def _count(rows: Sequence[CubeRow], centroid: int, label: str, period: object) -> int:
    return sum(row.entities for row in rows if (row.centroid_id, row.label, row.period) == (centroid, label, period))


def _typical(level: ShownLevel, centroid: int, features: Sequence[str]) -> list[str]:
    if centroid >= len(level.typical):  # of a former model
        return [NONE] * len(features)
    return [f"{level.typical[centroid][name]:,.1f}" for name in features]
