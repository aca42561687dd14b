"""Children that answer one question."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_that_a_child_prints_gets_into_its_answer() -> None:
    program = (
        "import os, msgspec; from ltr_pipeline.board.child import serve; "
        "serve(msgspec.defstruct('Asked', [('n', int)]), lambda asked: os.system('echo noise') or [asked.n])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b'{"n": 7}', capture_output=True, check=True)
    assert done.stdout == b"[7]"
    assert b"noise" in done.stderr


def test_an_error_is_its_last_word_and_one_line() -> None:
    program = (
        "import msgspec; from ltr_pipeline.board.child import serve; from ltr_pipeline.errors import SourceError\n"
        "def fail(asked): raise SourceError('it is\\ngone')\n"
        "serve(msgspec.defstruct('Asked', []), fail)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"{}", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"it is gone\n")
