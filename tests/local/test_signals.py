"""Programs that are asked to end: by a signal, by the end of their parent, and by whoever waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ltr_pipeline.local import foreground
from ltr_pipeline.local.foreground import follow
from ltr_pipeline.local.signals import ENDING, interruptible

TIDY = """
import sys, time
from ltr_pipeline.local.signals import end_with, interruptible
try:
    with interruptible():
        end_with(int(sys.argv[1]))
        print("ready", flush=True)
        time.sleep(600)
except KeyboardInterrupt as error:
    print(error, flush=True)
    time.sleep(0.5)
    sys.exit(7)
"""


def tidy(parent: int) -> list[str]:
    """A program that, when it is asked to end, says so and tidies up for a moment."""
    return [sys.executable, "-c", TIDY, str(parent)]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """No signal is ignored, as it is where the tests are started in the background or by `nohup`."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_further_ones_do_not_disturb(number: signal.Signals) -> None:
    def disturb() -> None:
        with interruptible():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=f"stopped by {number.name}"):
        disturb()
    assert signal.getsignal(number) == before


def test_what_nohup_has_started_outlives_the_terminal() -> None:
    script = (
        "import os\nfrom ltr_pipeline.local.signals import interruptible\nwith interruptible(): os.kill(os.getpid(), 1)"
    )
    command = ["nohup", sys.executable, "-c", script]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def test_a_program_ends_with_its_parent(tmp_path: Path) -> None:
    line = f"'{sys.executable}' -c '{TIDY}' $$ > {tmp_path}/log & wait"
    with subprocess.Popen(["sh", "-c", line]) as parent:
        deadline = time.monotonic() + 60
        while not (tmp_path / "log").exists() or (tmp_path / "log").read_text() != "ready\n":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    child.wait(60)
    assert (tmp_path / "log").read_text() == "ready\nstopped by SIGTERM\n"
    orphan = subprocess.run(tidy(parent.pid), capture_output=True, text=True, check=False, timeout=60)
    assert (orphan.returncode, orphan.stdout) == (7, "stopped by SIGTERM\n")


def test_whoever_waits_passes_on_that_it_is_asked_to_end() -> None:
    said: list[str] = []

    def read(line: str) -> None:
        said.append(line)
        if line == "ready\n":
            os.kill(os.getpid(), signal.SIGTERM)

    assert follow(tidy(os.getpid()), read) == (7, True)
    assert said == ["ready\n", "stopped by SIGTERM\n"]
    assert follow(["sh", "-c", "echo one; exit 3"], said.append) == (3, False)
    assert said[2:] == ["one\n"]


def test_what_does_not_end_when_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "END_SECONDS", 0.2)
    stubborn = ["sh", "-c", "trap '' TERM; echo ready; exec sleep 600"]
    assert follow(stubborn, lambda _: os.kill(os.getpid(), signal.SIGINT)) == (-signal.SIGKILL, True)
