"""Events: from a source's messages to landed, typed, accounted partitions.

`source` says what landing needs of a source; ``sources/`` has two, files and a Kafka topic. ``decoding/`` turns their
blocks into impressions and feedback. `landing` writes a partition of `tables`, `manifest` tells what is in it and
`reasons` why a record is not.
"""
