"""Draft a mapping from a log, say why it is as it is, and try the log with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.markup import escape

from ltr_pipeline.cli import nightly
from ltr_pipeline.cli.console import console, print_line, print_table
from ltr_pipeline.draft.drafting import Draft, draft
from ltr_pipeline.draft.sample import Sample, sampled
from ltr_pipeline.draft.toml import written
from ltr_pipeline.errors import SettingsError
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.mapping import OPTIONS, load_mapping

__all__ = ["init"]

_KEYS = ("kind", "impression_kinds", "feedback_kinds", "items", "features", *OPTIONS)
_MOST_SHOWN = 10  # names in a cell


def init(log: Path, path: Path, force: bool) -> None:
    """Write a mapping drafted from a log to `path`, and try the log with it; exit with 1 if it would not pass."""
    if path.exists() and not force:
        raise SettingsError(f"{path} is there already and is not overwritten; name another --mapping, or use --force")
    with console.status("reading"):
        sample = sampled(FileSource(log, closed=True))
        drafted = draft(sample)
    _write(path, written(drafted.mapping, _head(log, sample, drafted), drafted.reasons), force)
    load_mapping(path)
    print_line(f"Looked at {_seen(sample)} of {log}.")
    console.print()
    print_table(("Key", "Drafted", "Why"), _rows(drafted))
    console.print("\nLook at these, you know better:")
    for doubt in drafted.doubts:
        print_line(f"  - {doubt}")
    console.print()
    print_line(f"Wrote {path}.")
    if drafted.program:
        _print_program(drafted.program, path)
        raise typer.Exit(1)
    print_line(f"Trying the log with it, as `ltr try {_word(log)} --mapping {_word(path)}` does:")
    console.print()
    passes = nightly.passes(log, path)
    _print_next(log, path, passes)
    if not passes:
        raise typer.Exit(1)


def _write(path: Path, text: str, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name another --mapping") from error


def _seen(sample: Sample) -> str:
    lines = f"{sample.lines:,} lines" + ("" if sample.whole else ", from all over it,")
    others = [(sample.refused.total(), "no message"), (sample.unrelated, "output of another kind")]
    odd = ", ".join(f"{count:,} {what}" for count, what in others if count)
    return f"{lines} ({odd})" if odd else lines


def _head(log: Path, sample: Sample, drafted: Draft) -> Iterator[str]:
    """Yield what the file begins with."""
    yield f"Drafted by `ltr init` from {_seen(sample)} of {log}. Check each choice; its reason stands above it."
    yield 'What can be written here: docs/events.md, "Another domain".'
    if drafted.doubts:
        yield ""
        yield from (f"- {doubt}" for doubt in drafted.doubts)


def _rows(drafted: Draft) -> Iterator[tuple[str, str, str]]:
    mapping, reasons = drafted.mapping, drafted.reasons
    for name in _KEYS:
        if why := reasons.get(name):
            yield name, escape(_names(getattr(mapping, name))), escape(why)
    for name, paths in mapping.fields.items():
        yield f"fields.{name}", escape(_names(paths)), escape(reasons.get(f"fields.{name}", ""))
    actions = {action: reasons.get(f"relevance.{action}", "") for action in mapping.relevance}
    for action, why in actions.items():
        yield "relevance", escape(f"{action} = {mapping.relevance[action]}"), escape(why)


def _names(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    more = f", and {len(value) - _MOST_SHOWN} more" if len(value) > _MOST_SHOWN else ""
    return ", ".join(text or "(beside the other fields)" for text in value[:_MOST_SHOWN]) + more


def _print_program(program: str, path: Path) -> None:
    """Say how to alter the log so that the mapping reads it."""
    console.print("The log is not tried, as it has to be altered first, where it is written or by jq:")
    print_line(f"  jq -c {shlex.quote(program)} LOG > altered.jsonl")
    print_line(f"  ltr try altered.jsonl --mapping {_word(path)}")


def _print_next(log: Path, path: Path, passes: bool) -> None:
    console.print("\nNext:")
    if not passes:
        print_line("  - What stands in the way is said above. Change the mapping or the log, and try again:")
        print_line(f"      ltr try {_word(log)} --mapping {_word(path)}")
    print_line("  - To learn from this log for good, let every command know of it, and run a night:")
    settings = " ".join(
        shlex.quote(f"{name}={value.absolute()}") for name, value in (("LTR_EVENTS_PATH", log), ("LTR_MAPPING", path))
    )
    print_line(f"      printf '%s\\n' {settings} >> .env")
    print_line("      make run")


def _word(path: Path) -> str:
    return shlex.quote(str(path))
