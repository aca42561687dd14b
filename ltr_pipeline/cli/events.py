"""The landed partitions, and the records that were refused."""

from __future__ import annotations

import datetime as dt
from itertools import chain, islice

from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_line, print_table
from ltr_pipeline.cli.results import print_findings, print_manifest
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.events import forget as partitions
from ltr_pipeline.events.chain import Chain
from ltr_pipeline.events.manifest import Manifest, manifest_of, read_quarantine, together
from ltr_pipeline.events.partitions import called, landed
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


def show_events(name: str | None, limit: int, as_json: bool) -> None:
    """Print the manifest of a day or a run, and its first `limit` quarantined records; without a name, all landings.

    Of a day on which several runs landed, it is the account of all of them, and how many records each brought.
    """
    settings = load_settings()
    data = settings.data
    if name is None:
        _print_landings([manifest_of(data, one.folder) for one in landed(data)])
        return
    folders = [one.folder for one in called(data, name)]
    manifests = [manifest_of(data, folder) for folder in folders]
    manifest = together(manifests)
    if as_json:
        print_json(manifest)
        return
    print_manifest(manifest)
    refused = chain.from_iterable(read_quarantine(data, folder) for folder in folders)
    print_findings(diagnose(manifest, refused, None, settings), examples=False)
    console.print()
    if len(manifests) > 1:
        _print_landings(manifests)
        console.print()
    for one in manifests:
        for segment in one.range.segments if len(manifests) == 1 else ():
            print_line(f"read {_stretch(segment, one.range.source)}")
        for segment in one.lost:
            print_line(f"LOST before it was read: {_stretch(segment, one.range.source)}")
    if manifest.fallback:
        print_line(f"read instead of the configured source: {manifest.fallback}")
    first = list(islice(chain.from_iterable(read_quarantine(data, folder) for folder in folders), limit))
    if first:
        console.print(f"\nThe first {len(first)} of {manifest.quarantined:,} quarantined records:")
        cells = [(f"{r.source}:{r.offset}", r.reason, r.detail, r.excerpt[:60]) for r in first]
        print_table(("Place", "Reason", "Detail", "Begins with"), [[escape(text) for text in row] for row in cells])


def forget(user: str, reason: str) -> None:
    """Remove what has landed about a user, and the labelled tables of runs that hold it."""
    settings = load_settings()
    who = me()
    found = partitions.forget(settings.data, user, _chain(settings), who=who, why=reason)
    tables = forget_in_runs(settings.data, user)
    rows = [
        (one.partition.name, *(f"{n:,}" for n in (one.impressions, one.feedback, one.quarantined))) for one in found
    ]
    print_table(("Landing", "Impressions", "Interactions", "Quarantined"), rows)
    console.print(
        f"Removed from {len(found)} partitions, and {tables} labelled tables of runs. The event log or topic is yours "
        "to clean: what is read from there again lands again."
    )


def amend(name: str, reason: str) -> None:
    """Accept the partition of a run as it is, or each of a day."""
    settings = load_settings()
    for one in called(settings.data, name):
        partitions.accept(settings.data, one, _chain(settings), who=me(), why=reason)
        console.print(f"The partition of {one.name} is accepted as it is; `ltr verify --data` checks the rest.")


def _chain(settings: Settings) -> Chain:
    return Chain(settings.data, settings.trusted_keys)


def _stretch(segment: Segment, source: str) -> str:
    place = f"{segment.source}/{segment.partition}" if source == "kafka" else segment.source
    return f"{place} from {'offset' if source == 'kafka' else 'byte'} {segment.start:,} to {segment.end:,}"


def _print_landings(manifests: list[Manifest]) -> None:
    rows = [
        (
            m.partition.name,
            *(f"{n:,}" for n in (m.read, m.impressions, m.feedback, m.quarantined, m.ignored)),
            escape(m.fallback),
        )
        for m in manifests
    ]
    print_table(("Landing", "Read", "Impressions", "Interactions", "Quarantined", "Ignored", "Fallback"), rows)
