"""A wheel holds the compiled kernel where it was built with a compiler, and works without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from ltr_pipeline.scoring.kernel import library, load
from support import forests
from support.programs import CHECKOUT


def built(folder: Path, **environment: str) -> Path:
    """Build the wheel and unpack it."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, env=os.environ | environment, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return wheel


def test_a_wheel_built_with_a_compiler_scores_by_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    forests.compiled(tmp_path / "own")
    wheel = built(tmp_path)
    assert not wheel.stem.endswith("-any")
    found = tmp_path / "ltr_pipeline" / "scoring"
    assert {path.name for path in found.glob("*.so")} == {path.name for path in (tmp_path / "own").glob("*.so")}
    assert load(found).lanes == load(tmp_path / "own").lanes


@pytest.mark.parametrize("compiler", ["no-compiler", "false"])
def test_a_wheel_built_without_one_is_for_every_machine_and_doctor_says_so(tmp_path: Path, compiler: str) -> None:
    wheel = built(tmp_path, CC=compiler)
    assert wheel.name == "ltr_pipeline-0.1.0-py3-none-any.whl"
    found = tmp_path / "ltr_pipeline" / "scoring"
    assert (found / "kernel.c").exists()
    assert not list(found.glob("*.so"))
    script = (
        "import numpy as np\n"
        "from ltr_pipeline import doctor\n"
        "from ltr_pipeline.scoring.scorer import Scorer\n"
        "from support.documents import model_text\n"
        "scorer = Scorer.from_model(model_text(), ['A', 'S'])\n"
        "scores = scorer.score(np.float32([[0.25, 0], [0.75, 0]] * 2000))\n"
        "print(doctor.__file__, set(scores.tolist()), *doctor._scoring())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(CHECKOUT / "tests"), str(CHECKOUT)])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{tmp_path}/ltr_pipeline/doctor.py {{0.25, 0.75}} ('warning', 'numpy scores models")
    assert library(4).name in done.stdout
