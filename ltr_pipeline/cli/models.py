"""Versions: list, show, verify, roll back, pin and unpin."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from ltr_pipeline import registry
from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.jobs import nightly
from ltr_pipeline.report.wording import figure
from ltr_pipeline.runs.run import judged
from ltr_pipeline.settings import load_settings
from ltr_pipeline.versions.ledger import Move

__all__ = ["register"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    for command in (versions, show, history, verify, rollback, pin, unpin, prune, publish):
        app.command(rich_help_panel="Versions")(command)


def versions(as_json: AsJson = False) -> None:
    """List every version, newest first."""
    found = registry.open_registry().versions()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            listed.version,
            listed.created_at.strftime("%Y-%m-%d %H:%M") if listed.created_at else "",
            figure(listed.ndcg_at_5),
            ("latest" if listed.is_latest else "") + (", pinned" if listed.pinned else ""),
            listed.sha256[:12],
            escape(listed.problem or ""),
        )
        for listed in found
    ]
    print_table(("Version", "Created (UTC)", "nDCG@5", "", "sha256", ""), rows)


def show(version: Annotated[str, typer.Argument(help="Version id, such as 20250714_0215.")]) -> None:
    """Print a version's document without the model text."""
    document = msgspec.to_builtins(registry.open_registry().load(version))
    document["model"]["text"] = f"{len(document['model']['text'])} characters"
    print_json(document)


def history(as_json: AsJson = False) -> None:
    """Print the ledger: every publish, rollback, pin and unpin, oldest first."""
    moves = registry.open_registry().history()
    if as_json:
        print_json(moves)
        return
    rows = [
        (
            str(move.seq),
            move.when.strftime("%Y-%m-%d %H:%M"),
            move.move,
            move.version,
            f"{move.before or '-'} → {move.to}" if move.moved else f"stays {move.to}",
            "pinned" if move.pin else "",
            escape(move.who),
            escape(move.note or move.why),
        )
        for move in moves
    ]
    print_table(("#", "When (UTC)", "Move", "Version", "latest", "Pin", "Who", "Why"), rows)


def verify() -> None:
    """Check that every version loads and its golden requests score as recorded; exit 1 if one does not."""
    verified = registry.open_registry().verify()
    print_table(
        ("Version", "", ""), [(v.version, "ok" if v.ok else "BROKEN", escape(v.problem or "")) for v in verified]
    )
    if not all(v.ok for v in verified):
        raise typer.Exit(1)


def rollback(
    version: Annotated[str | None, typer.Argument(help="Where to; without one, the previous good version.")] = None,
    *,
    reason: Reason,
) -> None:
    """Move `latest` back and pin it there."""
    _print_move(registry.rollback_weights(version, reason=reason))
    console.print("Pinned: later versions are published but latest stays until `ltr unpin`.")


def pin(*, reason: Reason) -> None:
    """Keep `latest` where it is until `ltr unpin`."""
    _print_move(registry.pin_weights(reason=reason))


def unpin(reason: Reason = "unpinned by hand") -> None:
    """Let the next publish move `latest` again; moves nothing by itself."""
    _print_move(registry.unpin_weights(reason=reason))


def prune(
    *,
    keep: Annotated[int, typer.Option(min=1, help="Newest versions to keep.")] = 30,
    moves: Annotated[int, typer.Option(min=1, help="Newest ledger entries whose versions are kept.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    reason: Reason = "pruned by hand",
) -> None:
    """Remove old versions for good; never `latest`, nor what the newest moves or a rollback need."""
    gone = registry.prune_weights(keep, moves=moves, dry_run=dry_run, reason=reason)
    what = "would be removed" if dry_run else "removed"
    console.print(f"{len(gone)} versions {what}" + (f": {', '.join(gone)}" if gone else ""))


def publish(run: Annotated[str, typer.Argument(help="Name of the run, such as 20250714_0215.")]) -> None:
    """Publish what a run's gate has passed, when its own publish could not, e.g. with the registry away."""
    settings = load_settings()
    outcome = nightly.publish_weights(judged(run, settings), registry.me(), settings)
    console.print(f"{outcome['version']}: {outcome['reason']}; latest is {outcome['latest']}")


def _print_move(move: Move) -> None:
    state = "pinned" if move.pin else "not pinned"
    console.print(f"latest is {move.to} ({state}); ledger entry {move.seq}: {move.move} by {move.who}", markup=False)
