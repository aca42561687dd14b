"""Make our tables in people's database."""

from __future__ import annotations

from ltr_pipeline.cli.console import console, print_line
from ltr_pipeline.cli.settings import load_settings
from ltr_pipeline.jobs import database
from ltr_pipeline.printable import counted

__all__ = ["init"]


def init(dry_run: bool, indexes: bool) -> None:
    """Create and upgrade our tables and say what was done, or print the statements that would do it."""
    settings = load_settings()
    statements = database.init(settings, dry_run=dry_run)
    if dry_run:
        for statement in statements:
            console.print(f"{statement};\n", markup=False)
    if not statements:
        print_line(f"{settings.database}: all tables are there and up to date")
    elif not dry_run:
        print_line(f"{settings.database}: tables are made and up to date ({len(statements)} statements)")
    offered = database.partial_indexes(settings)
    if indexes and not dry_run:
        database.make_indexes(settings, offered)
        print_line(f"{settings.database}: {counted(len(offered), 'index', 'indexes')} made")
    elif offered:
        print_line("With --indexes it also makes an index, so that the last rows without a score are found as quickly:")
        for statement in offered:
            console.print(f"{statement};", markup=False)
