"""What releases landed that landed once a night: `date=…` alone, and no moment in the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from ltr_pipeline.events.manifest import encoded, manifest_of
from ltr_pipeline.events.partitions import Partition
from ltr_pipeline.storage.local import LocalStorage

__all__ = ["FORMER", "as_former", "former_site"]

FORMER = Path(__file__).parent.parent / "events" / "first_release"
"""A log, three landed nights of it, signed, their runs' inputs, and the public key: written by such a release."""


def former_site(folder: Path) -> Path:
    """Copy what such a release left into a folder, and return that."""
    shutil.copytree(FORMER, folder, dirs_exist_ok=True)
    return folder


def as_former(data: LocalStorage, partition: Partition) -> Partition:
    """Make the newest partition one of such a release."""
    former = Partition.of_night(partition.date)
    manifest = manifest_of(data, partition.folder)
    for key in data.keys(partition.folder):
        data.put(key.replace(partition.folder, former.folder), data.get(key))
    data.put(f"{former.folder}/manifest.json", encoded(msgspec.structs.replace(manifest, run_at=msgspec.UNSET)))
    shutil.rmtree(data.root / partition.folder)
    return former
