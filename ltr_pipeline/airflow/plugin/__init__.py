"""Our part of Airflow's UI: the board in its navigation and on each run, what people may do there, and notes on runs.

`board/` renders the pages. Here they are mounted, behind Airflow's own login; who may act is checked, and acts are
done. Airflow finds `LtrPlugin` by the package's entry point and loads it in each of its processes, so nothing of the
board is imported before somebody looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltr_pipeline.airflow.plugin.entry import LtrPlugin

__all__ = ["LtrPlugin"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any type
    """Import the plugin when Airflow asks for it, and not with each part of this room."""
    if name != "LtrPlugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ltr_pipeline.airflow.plugin.entry import LtrPlugin

    return LtrPlugin
