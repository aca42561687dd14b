"""The published models: versions and the `latest` pointer, over any storage.

::

    20250714_0215/ltr_weights.json     documents: a version is created once and never overwritten
    20240101_0215/pruned.json          documents: the tombstone of a pruned version, whose id is never used again
    history/00000001.json              ledger: which version was promoted when, by whom and why
    latest/ltr_weights.json            latest: the promoted version's document, byte for byte

The ledger is the truth, and `latest` only follows its newest entry. `registry` combines them, `weights` is the document
itself, `golden` checks the requests that it must score as recorded, `ids` has the names of versions.
"""
