"""The compiled kernel is found where it belongs, and numpy scores where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltr_pipeline.scoring.kernel import library, load
from support import forests
from support.programs import CHECKOUT


def test_the_widest_kernel_for_this_processor_is_taken(tmp_path: Path) -> None:
    made = forests.kernels(tmp_path)
    assert load(tmp_path).lanes == max(made)


def test_without_a_library_there_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"kernel-[0-9a-f]{12}-4\.so"):
        load(tmp_path)
    library(4, tmp_path).write_bytes(b"for another machine")
    with pytest.raises(OSError, match=r"kernel-[0-9a-f]{12}-4\.so"):
        load(tmp_path)


@pytest.mark.long
def test_a_kernel_stays_within_its_memory(tmp_path: Path) -> None:
    """Over hundreds of odd boosters and thousands of odd requests."""
    forests.compiled(tmp_path, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    asan = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = os.environ | {
        "LD_PRELOAD": asan.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")]),
    }

    def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = sanitized("-m", "support.sanitized", str(tmp_path), "1000", "500")
    assert done.returncode == 0, done.stderr
    overrun = (
        "import sys, numpy as np; from pathlib import Path; from ltr_pipeline.scoring.kernel import Compiled, Kernel; "
        "from ltr_pipeline.scoring.trees import read_trees; from support.documents import model_text; "
        "made = Compiled(read_trees(model_text()).trees, np.uint32, Kernel(4, Path(sys.argv[1]))); "
        "made._room = 1; made.score(np.zeros((99, 2), np.float32))"
    )
    assert "heap-buffer-overflow" in sanitized("-c", overrun, str(tmp_path)).stderr  # so it would have been seen
