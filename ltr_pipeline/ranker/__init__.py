"""LambdaMART: `train` makes a model of rankings as `data` has them, `distil` the linear one that stands in for it.

`letor` scores benchmarks that others publish, whose rankings `libsvm` reads.
"""
