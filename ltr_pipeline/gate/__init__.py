"""The quality gate: judge whether a newly trained model, the challenger, is good enough to publish.

`rivals` are the published versions it is compared with, `measure` gathers the `evidence`, `checks` hold it against the
`policy`, `decision` says what follows, and `document` is what is published when they let it pass. A new check is a
function in `checks`, made in `decision`.
"""
