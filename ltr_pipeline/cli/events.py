"""The landed partitions, and the records that were refused."""

from __future__ import annotations

import datetime as dt
from itertools import islice

from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_line, print_table
from ltr_pipeline.cli.results import print_findings, print_manifest
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.events import forget as partitions
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.manifest import Manifest, landed_dates, read_manifest, read_quarantine
from ltr_pipeline.events.source import Segment
from ltr_pipeline.registry import me
from ltr_pipeline.report.diagnosis import diagnose
from ltr_pipeline.runs.forget import forget_in_runs
from ltr_pipeline.settings import Settings

__all__ = ["amend", "day", "forget", "show_events"]


def day(text: str) -> dt.date:
    """Parse a day as people type it; SettingsError when it is none."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{text!r} is no day: {error}; write it as 2025-07-15") from error


def show_events(date: str | None, limit: int, as_json: bool) -> None:
    """Print the manifest of a night and its first `limit` quarantined records; without a date, all landed days."""
    settings = load_settings()
    data = settings.data
    if date is None:
        _print_days([read_manifest(data, landed) for landed in landed_dates(data)])
        return
    manifest = read_manifest(data, day(date))
    if as_json:
        print_json(manifest)
        return
    print_manifest(manifest)
    print_findings(diagnose(manifest, read_quarantine(data, manifest.date), None, settings), examples=False)
    console.print()
    for segment in manifest.range.segments:
        print_line(f"read {_stretch(segment, manifest.range.source)}")
    for segment in manifest.lost:
        print_line(f"LOST before it was read: {_stretch(segment, manifest.range.source)}")
    if manifest.fallback:
        print_line(f"read instead of the configured source: {manifest.fallback}")
    refused = list(islice(read_quarantine(data, manifest.date), limit))
    if refused:
        console.print(f"\nThe first {len(refused)} of {manifest.quarantined:,} quarantined records:")
        cells = [(f"{r.source}:{r.offset}", r.reason, r.detail, r.excerpt[:60]) for r in refused]
        print_table(("Place", "Reason", "Detail", "Begins with"), [[escape(text) for text in row] for row in cells])


def forget(user: str, reason: str) -> None:
    """Remove what has landed about a user, and the labelled tables of runs that hold it."""
    settings = load_settings()
    who = me()
    found = partitions.forget(settings.data, user, _chain(settings), who=who, why=reason)
    tables = forget_in_runs(settings.data, user)
    rows = [(str(one.date), *(f"{n:,}" for n in (one.impressions, one.feedback, one.quarantined))) for one in found]
    print_table(("Date", "Impressions", "Interactions", "Quarantined"), rows)
    console.print(
        f"Removed from {len(found)} partitions, and {tables} labelled tables of runs. The event log or topic is yours "
        "to clean: what is read from there again lands again."
    )


def amend(date: str, reason: str) -> None:
    """Accept a partition as it is."""
    settings = load_settings()
    partitions.accept(settings.data, day(date), _chain(settings), who=me(), why=reason)
    console.print(f"The partition of {date} is accepted as it is; `ltr verify --data` checks the rest.")


def _chain(settings: Settings) -> Chain:
    return Chain(settings.data, settings.trusted_keys)


def _stretch(segment: Segment, source: str) -> str:
    place = f"{segment.source}/{segment.partition}" if source == "kafka" else segment.source
    return f"{place} from {'offset' if source == 'kafka' else 'byte'} {segment.start:,} to {segment.end:,}"


def _print_days(manifests: list[Manifest]) -> None:
    rows = [
        (
            str(m.date),
            *(f"{n:,}" for n in (m.read, m.impressions, m.feedback, m.quarantined, m.ignored)),
            escape(m.fallback),
        )
        for m in manifests
    ]
    print_table(("Date", "Read", "Impressions", "Interactions", "Quarantined", "Ignored", "Fallback"), rows)
