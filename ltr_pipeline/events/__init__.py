"""Events: from a source's messages to landed, typed, accounted partitions.

`source` says what landing needs of a source, `files` and `kafka` are two. `decode` turns its blocks into impressions
and feedback: `fast` where Arrow can be trusted, `strict` where a reason is wanted, both by the `shape` of the mapping
and both judged by `checks`. `landing` writes a partition, `manifest` tells what is in it.
"""

from ltr_pipeline.events.decode import Decoded, Decoder
from ltr_pipeline.events.files import FileSource, find
from ltr_pipeline.events.kafka import KafkaSource
from ltr_pipeline.events.landing import cursor, land
from ltr_pipeline.events.manifest import (
    Manifest,
    folder_of,
    is_backfill,
    landed_dates,
    partitions_for,
    read_manifest,
    read_quarantine,
    verify,
)
from ltr_pipeline.events.source import Block, Quarantined, Range, Segment, Source

__all__ = [
    "Block",
    "Decoded",
    "Decoder",
    "FileSource",
    "KafkaSource",
    "Manifest",
    "Quarantined",
    "Range",
    "Segment",
    "Source",
    "cursor",
    "find",
    "folder_of",
    "is_backfill",
    "land",
    "landed_dates",
    "partitions_for",
    "read_manifest",
    "read_quarantine",
    "verify",
]
