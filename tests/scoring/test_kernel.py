"""The compiled kernel is found where it belongs, and numpy scores where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.scoring.kernel import library, load
from support import forests


def test_the_widest_kernel_for_this_processor_is_taken(tmp_path: Path) -> None:
    made = forests.kernels(tmp_path)
    assert load(tmp_path).lanes == max(made)


def test_without_a_library_there_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"kernel-[0-9a-f]{12}-4\.so"):
        load(tmp_path)
    library(4, tmp_path).write_bytes(b"for another machine")
    with pytest.raises(OSError, match=r"kernel-[0-9a-f]{12}-4\.so"):
        load(tmp_path)
