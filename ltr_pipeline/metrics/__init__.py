"""Pure functions of tables: how good, how fair and how sure a ranking is.

`rankings` is the table that they read, with its ranks and ties; `quality` has nDCG, MRR and Hit with their intervals,
`slices` the same for parts of the data. `fairness` is the gap between `groups`, counted over `pairs`. `preference` and
`interleaving` tell which of two rankers users prefer; `resampling` draws what they share.
"""
