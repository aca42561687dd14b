"""LambdaMART: `train` makes a model of rankings as `data` has them, `distil` the linear one that stands in for it.

`letor` reads rankings from LibSVM files, for benchmarks that others publish.
"""
