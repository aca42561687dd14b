"""Pure functions of tables: how good, how fair and how sure a ranking is.

`quality` has nDCG, MRR and Hit with their intervals, `fairness` the gap between groups, `preference` and
`interleaving` which of two rankers users prefer; `resampling` draws what they share.
"""
