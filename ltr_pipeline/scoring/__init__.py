"""From a request to an order: the one path that the latency check, golden requests and the service all take.

`requests` reads candidates, `scorer` scores and ranks them; `trees` and `forest` are a LightGBM model read and scored
by bit vectors; `latency` measures the whole path.
"""
