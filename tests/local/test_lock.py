"""A lock that one process has at a time: the other is told who has it, and it ends with its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltr_pipeline.errors import ProgramError
from ltr_pipeline.local.lock import held

HOLDER = """
import sys, time
from pathlib import Path
from ltr_pipeline.local.lock import held
with held(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_told_who_has_it_until_that_process_has_ended(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "run.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said = rf"another run is under way: process {holder.pid}, since \d{{4}}-\d\d-\d\d [\d:]{{8}} UTC; wait until"
        with pytest.raises(ProgramError, match=said), held(lock, "another run"):
            pass
        holder.kill()
    for _ in range(2):
        with held(lock, "another run"):
            assert lock.read_text().count("process") == 1
