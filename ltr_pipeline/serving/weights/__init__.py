"""The weights that the service ranks with.

`models` holds those in use, `reload` brings new ones, `variants` keeps other versions to compare them with. The
`catalogue` lists the registry's versions; `workers` passes notes between the processes of one service.
"""
