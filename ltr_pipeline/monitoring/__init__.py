"""Watching: what the nights, the data, the models and the business did, kept as a history.

`records` are what is kept and `store` keeps them; both are light, as the service reads them, too.
"""
