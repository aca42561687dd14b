"""Serve the DAG files of an installed wheel, without copying them into a dags folder.

In the configuration of Airflow::

    [dag_processor]
    dag_bundle_config_list = [{"name": "ltr", "classpath": "ltr_pipeline.airflow.bundle.LtrDagBundle", "kwargs": {}}]
"""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.bundles.base import BaseDagBundle

__all__ = ["LtrDagBundle"]


class LtrDagBundle(BaseDagBundle):
    """The wheel's own DAG files; they change when another version of the wheel is installed."""

    supports_versioning = False

    @property
    def path(self) -> Path:
        """Folder of the DAG files: inside an installed wheel, else beside the package in a checkout."""
        inside = Path(__file__).parent / "dags"
        return inside if inside.is_dir() else Path(__file__).parents[2] / "dags"

    def get_current_version(self) -> None:
        """Return None: the bundle has no version of its own but the wheel's."""

    def refresh(self) -> None:
        """Do nothing: there is nothing to fetch."""
