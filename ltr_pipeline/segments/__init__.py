"""Engagement segments of users and items: what they did in a day, a week or a month, in words.

`periods` says which stretches of time count, `engagement` what each entity did in them, `parameters` what a person may
choose. `training` fits a `model` by K-Means and names its centroids by `labels`; `comparison` holds it against the
former one. `tables` and `store` keep parameters, models and the classified cube in the database, and `outcome` tells
what came of it.
"""
