"""From a request to an order: the one path that the latency check, golden requests and the service all take.

`requests` reads candidates, by `reading` where the kernel is compiled; `scorer` scores and ranks them. `trees` reads
the trees of a LightGBM model, and `forest` scores them by bit vectors: by the compiled `kernel`, or by `tables` of
numpy, both made of `nodes`. `latency` measures the whole path. `resting` lets a model load without slowing requests.
"""
