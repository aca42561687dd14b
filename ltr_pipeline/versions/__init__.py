"""What is published: versions and the `latest` pointer, over any storage.

::

    20250714_0215/ltr_weights.json     documents: a version is created once and never overwritten
    20240101_0215/pruned.json          documents: what is left of one that was pruned, so that its id is not used again
    history/00000001.json              ledger: what was promoted when, by whom and why
    latest/ltr_weights.json            latest: the promoted version's document, byte for byte

The ledger is the truth and `latest` only projects its newest entry. `registry` is where these meet, `weights` the
document itself, `golden` the requests that it must score as recorded, `ids` the names of versions.
"""
