"""Events: from a source's messages to landed, typed, accounted partitions.

`source` says what landing needs of a source, `files` and `kafka` are two. `decode` turns its blocks into impressions
and feedback: `fast` where Arrow can be trusted, `strict` where a reason is wanted, both by the `shape` of the mapping
and both judged by `checks`. `landing` writes a partition, `manifest` tells what is in it.
"""
