"""A block of messages becomes two typed tables; what cannot be read gets a reason.

`decode` is the way in: `vectorised` where Arrow can be trusted, `strict` where a reason is wanted, both by the `shape`
of the mapping and both judged by `checks`.
"""
