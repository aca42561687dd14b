"""How far a command of several steps is: a line for each step that has ended, and on a terminal one that lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ltr_pipeline.cli.console import console, print_line

__all__ = ["Steps"]


class Steps:
    """Tells which step a command is at, how long each took, and of how many rows it was.

    Parameters
    ----------
    places
        Names of the steps in their order; of those in one place only one is done.
    titles
        What each does, for people.
    rows
        Returns the rows that a step which has ended was about; None where that says nothing.
    about
        Said before each step, where several rounds of steps follow each other.

    Attributes
    ----------
    rows
        As above; may be set once it is known whose rows these are.
    """

    def __init__(
        self,
        places: Sequence[Sequence[str]],
        titles: Mapping[str, str],
        rows: Callable[[str], int | None] = lambda _: None,
        about: str = "",
    ) -> None:
        self._place = {name: place for place, names in enumerate(places, 1) for name in names}
        self._count, self._titles, self._about, self.rows = len(places), titles, about, rows
        self._now, self._since = "", 0.0
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        self._live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._line = self._live.add_task("", start=False, visible=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.end()
        elif self._now:
            self._tell(f"failed after {self._seconds()}")
        self._live.stop()

    def begin(self, name: str) -> None:
        """Begin a step, and end the one before."""
        self.end()
        self._now, self._since = name, time.monotonic()
        self._live.reset(self._line, description=self._said(), visible=True)

    def end(self, rows: int | None = None) -> None:
        """End the step that was begun, if one was."""
        if self._now:
            found = self.rows(self._now) if rows is None else rows
            self._tell(self._seconds() + (f", {found:,} rows" if found is not None else ""))
            self._now = ""

    def _tell(self, outcome: str) -> None:
        print_line(f"{self._said()}, {outcome}")

    def _said(self) -> str:
        place = f"step {self._place[self._now]} of {self._count}"
        return f"{self._about}{place}: {self._titles[self._now]}"

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._since:.1f} s"
