"""Kernels fuzzed by a process that ends at a wrong address, and at what C does not define.

    python -m support.sanitized FOLDER SEED COUNT

scores COUNT odd boosters and reads as many odd requests by each kernel in FOLDER that this processor can run. They are
compiled with sanitizers, which a test loads before anything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support import features, forests

if __name__ == "__main__":
    every = list(forests.loaded(Path(sys.argv[1])).values())
    first, count = map(int, sys.argv[2:])
    for seed in range(first, first + count):
        forests.compare(seed, [*every])
        for more in range(20):
            features.compare(20 * seed + more, every[0])
