"""Events: from a source's messages to landed, typed, accounted partitions.

`source` says what landing needs of a source; ``sources/`` has two, files and a Kafka topic. ``decoding/`` turns their
blocks into impressions and feedback. `landing` writes a partition of `tables`, `manifest` tells what is in it and
`reasons` why a record is not. `partitions` knows which have landed, in order of their moments, and `chain` that they
follow each other.

Whoever lands more than once a day needs four things: `runs.extract.land` (what arrived, at a moment),
`partitions.newest` (the moment of the newest landing), `chain.arrived` (the partitions that landed since a moment) and
`chain.partitions_for` (those with events of a window).
"""
