"""Versions: list, show, verify, roll back, pin and unpin."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

import msgspec
import typer
from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_line, print_table
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.errors import LtrError
from ltr_pipeline.registry import me
from ltr_pipeline.report.nights import nights, verdict_of
from ltr_pipeline.report.wording import figure
from ltr_pipeline.settings import Settings
from ltr_pipeline.signing import make_private_key, public_keys, signing_keys
from ltr_pipeline.versions.documents import document_key
from ltr_pipeline.versions.ids import Version, hourly
from ltr_pipeline.versions.ledger import Move
from ltr_pipeline.versions.registry import Listed

__all__ = ["history", "keys", "pin", "prune", "repair", "rollback", "show", "unpin", "verify", "versions"]


NIGHTS: Final = 60
"""Newest nights that the history looks at."""

_MINUTE: Final = "%Y-%m-%d %H:%M"


def versions(as_json: bool) -> None:
    """List every version, newest first."""
    found = load_settings().registry.versions()
    if as_json:
        print_json(found)
        return
    console.print(_in_use(found))
    if not found:
        return
    rows = [
        (
            listed.version,
            f"{listed.created_at:{_MINUTE}}" if listed.created_at else "",
            figure(listed.ndcg_at_5),
            ", ".join(_state(listed)),
            listed.sha256[:12],
            escape(listed.problem or ""),
        )
        for listed in found
    ]
    print_table(("Version", "Created (UTC)", "nDCG@5", "", "sha256", ""), rows)


def _state(listed: Listed) -> Iterator[str]:
    """Yield what is to be said of a version beside its figures."""
    if listed.is_latest:
        yield "latest"
    if listed.pinned:
        yield "pinned"
    if listed.parent:
        yield hourly(listed.parent)


def _in_use(found: Sequence[Listed]) -> str:
    """Say in a line how many versions there are, and which is `latest`."""
    if not found:
        return "Nothing is published yet; `make run` or `ltr run` runs a night."
    count = "1 version" if len(found) == 1 else f"{len(found):,} versions"
    latest = next((listed for listed in found if listed.is_latest), None)
    if latest is None:
        return f"{count}; latest is none of them, which `ltr verify` explains"
    kind = f" ({hourly(latest.parent)})" if latest.parent else ""
    return f"{count}; latest is {latest.version}{kind}" + (", pinned until `ltr unpin`" if latest.pinned else "")


def show(version: str) -> None:
    """Print the document of a version without the text of its model, or the verdict of a run that published none."""
    settings = load_settings()
    if judged := _judged_only(version, settings):
        print_json(judged)
        return
    document = msgspec.to_builtins(settings.registry.load(version))
    document["model"]["text"] = f"{len(document['model']['text'])} characters"
    print_json(document)


def _judged_only(name: str, settings: Settings) -> dict[str, object] | None:
    """Return the verdict of a run, unless there is a version of its name."""
    Version.parse(name)
    return None if settings.registry.storage.exists(document_key(name)) else verdict_of(settings, name)


def history(as_json: bool) -> None:
    """Print the ledger, oldest move first, and among its moves the nights that kept the former version."""
    settings = load_settings()
    moves = settings.registry.history()
    if as_json:
        print_json(moves)
        return
    rows = heapq.merge(map(_move_row, moves), _kept_rows(settings), key=itemgetter(1))
    print_table(("#", "When (UTC)", "What happened"), rows)


def _kept_rows(settings: Settings) -> list[tuple[str, ...]]:
    """Return rows of the newest nights that kept the former version, oldest first; none where runs cannot be read."""
    try:
        kept = [night for night in reversed(nights(settings, NIGHTS)) if night.verdict == "kept"]
    except LtrError as error:
        typer.echo(f"nights that kept the former version are not among these: {error}", err=True)
        return []
    return [
        ("", f"{Version.parse(night.run).time:{_MINUTE}}", escape(f"run {night.run} published nothing: {night.reason}"))
        for night in kept
    ]


def _move_row(move: Move) -> tuple[str, ...]:
    return str(move.seq), f"{move.when:{_MINUTE}}", escape(str(move))


def verify(data: bool) -> None:
    """Print whether the registry, and with `data` all that has landed, is as it was written; exit with 1 if not."""
    settings = load_settings()
    rows = [(v.version, v.problem or "") for v in settings.registry.verify()]
    if data:
        from ltr_pipeline.events.chain import Chain  # with all that reads tables

        chain = Chain(settings.data, settings.trusted_keys)
        problems = list(chain.problems())
        rows += problems or [("landed partitions", "")]
    print_table(
        ("What", "", ""), [(escape(what), "BROKEN" if problem else "ok", escape(problem)) for what, problem in rows]
    )
    if any(problem for _, problem in rows):
        raise typer.Exit(1)


def repair() -> None:
    """Complete a move of `latest` that was killed."""
    moved = load_settings().registry.repair()
    console.print("latest was moved to where the ledger has it." if moved else "latest is where the ledger has it.")


def keys() -> None:
    """Print the public keys that go with LTR_SIGNING_KEY; without one, a new private key and its public one."""
    mine = load_settings().signing_key
    made = mine or make_private_key()
    if not mine:
        console.print(f"LTR_SIGNING_KEY={made}", markup=False, soft_wrap=True)
    for key in public_keys(signing_keys(made)):
        console.print(f"LTR_VERIFY_KEYS={key}", markup=False, soft_wrap=True)


def rollback(version: str | None, reason: str) -> None:
    """Move `latest` back to a version, or to the previous good one, and pin it there."""
    print_line(str(load_settings().registry.rollback(version, who=me(), why=reason)))


def pin(reason: str) -> None:
    """Keep `latest` where it is until `ltr unpin`."""
    print_line(str(load_settings().registry.pin(who=me(), why=reason)))


def unpin(reason: str) -> None:
    """Let the next publish move `latest` again."""
    print_line(str(load_settings().registry.unpin(who=me(), why=reason)))


def prune(keep: int, moves: int, dry_run: bool, reason: str) -> None:
    """Remove refreshes of former weeks, and all but the newest `keep` versions and what moves or a rollback need."""
    gone = load_settings().registry.prune(keep, who=me(), why=reason, moves=moves, dry_run=dry_run)
    what = "would be removed" if dry_run else "removed"
    console.print(f"{len(gone)} versions {what}" + (f": {', '.join(gone)}" if gone else ""))
