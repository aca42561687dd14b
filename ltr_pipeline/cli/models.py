"""Versions: list, show, verify, roll back, pin and unpin."""

from __future__ import annotations

import msgspec
import typer
from rich.markup import escape

from ltr_pipeline.cli.console import console, print_json, print_table
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.registry import me
from ltr_pipeline.report.wording import figure
from ltr_pipeline.signing import make_private_key, public_keys, signing_keys
from ltr_pipeline.versions.ledger import Move

__all__ = ["history", "keys", "pin", "prune", "repair", "rollback", "show", "unpin", "verify", "versions"]


def versions(as_json: bool) -> None:
    """List every version, newest first."""
    found = load_settings().registry.versions()
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


def show(version: str) -> None:
    """Print the document of a version without the text of its model."""
    document = msgspec.to_builtins(load_settings().registry.load(version))
    document["model"]["text"] = f"{len(document['model']['text'])} characters"
    print_json(document)


def history(as_json: bool) -> None:
    """Print the ledger, oldest move first."""
    moves = load_settings().registry.history()
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


def verify(data: bool) -> None:
    """Print whether the registry, and with `data` all that has landed, is as it was written; exit with 1 if not."""
    settings = load_settings()
    rows = [(v.version, v.problem or "") for v in settings.registry.verify()]
    if data:
        from ltr_pipeline.events.chain import Chain  # with all that reads tables

        chain = Chain(settings.data, settings.trusted_keys)
        problems = list(chain.problems())
        rows += problems or [("landed partitions", "")]
    print_table(("What", "", ""), [(what, "BROKEN" if problem else "ok", escape(problem)) for what, problem in rows])
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
    _print_move(load_settings().registry.rollback(version, who=me(), why=reason))
    console.print("Pinned: later versions are published but latest stays until `ltr unpin`.")


def pin(reason: str) -> None:
    """Keep `latest` where it is until `ltr unpin`."""
    _print_move(load_settings().registry.pin(who=me(), why=reason))


def unpin(reason: str) -> None:
    """Let the next publish move `latest` again."""
    _print_move(load_settings().registry.unpin(who=me(), why=reason))


def prune(keep: int, moves: int, dry_run: bool, reason: str) -> None:
    """Remove all versions but the newest `keep` and what the newest `moves` of the ledger or a rollback need."""
    gone = load_settings().registry.prune(keep, who=me(), why=reason, moves=moves, dry_run=dry_run)
    what = "would be removed" if dry_run else "removed"
    console.print(f"{len(gone)} versions {what}" + (f": {', '.join(gone)}" if gone else ""))


def _print_move(move: Move) -> None:
    state = "pinned" if move.pin else "not pinned"
    console.print(f"latest is {move.to} ({state}); ledger entry {move.seq}: {move.move} by {move.who}", markup=False)
