"""What the service ranks with: `models` in use, `reload` for new ones, `variants` beside them.

The `catalogue` lists versions, `workers` is what several processes of one service tell each other.
"""
