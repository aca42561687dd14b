"""`make setup`: by uv, by pip where uv cannot be had, and never what the lock has no hash of."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from types import ModuleType

import pytest

from ltr_pipeline.scoring.kernel import library
from support.packages import needed

CHECKOUT = Path(__file__).parents[2]
BUILT_BY = {"hatchling", "editables"}
ELSEWHERE = {"colorama", "tzdata"}  # on another platform


def program() -> ModuleType:
    """The program that installs, as a module."""
    spec = importlib.util.spec_from_file_location("install", CHECKOUT / "deploy" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(lock: Path) -> dict[str, str]:
    """Each package of a lock with its lines."""
    return {entry.partition("==")[0]: entry for entry in re.split(r"\n(?=\S)", lock.read_text().strip())}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout in a folder with a space, whose lock for `ltr try` holds only what builds the checkout."""
    folder = tmp_path / "a clone"
    for path in (path for path in CHECKOUT.iterdir() if path.is_file() and path.name != ".git"):
        folder.mkdir(exist_ok=True)
        copy(path, folder)
    for name in ("deploy", "dags", "ltr_pipeline"):
        copytree(CHECKOUT / name, folder / name, ignore=ignore_patterns("kernel-*.so"))
    small = [lines for name, lines in entries(CHECKOUT / "requirements-try.lock").items() if name in built_by()]
    (folder / "requirements-try.lock").write_text("\n".join(small) + "\n")
    return folder


def built_by() -> set[str]:
    return set().union(*(needed(name) for name in BUILT_BY))


def alter(lock: Path) -> None:
    """Another hash for everything."""
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{64 * '0'}", lock.read_text()))


def setup(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "setup", "TRY=1", f"PYTHON={sys.executable}"],
        cwd=clone,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def kernels(clone: Path) -> set[str]:
    """Which kernels lie in the clone."""
    return {path.name for path in (clone / "ltr_pipeline" / "scoring").glob("*.so")}


def version(clone: Path) -> str:
    """Version of the package in the clone's environment."""
    script = "from importlib.metadata import version; print(version('ltr-pipeline'))"
    python = clone / ".venv" / "bin" / "python"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_a_clone_with_a_space_is_set_up_by_uv(clone: Path) -> None:
    done = setup(clone)
    assert done.returncode == 0, done.stderr
    assert re.search(r"packages, about [\d.]+ GB on disk", done.stdout)
    assert "Installed" in done.stdout
    assert "pip" not in done.stdout
    assert version(clone) == "0.1.0"
    assert (clone / ".venv" / ".try").exists()
    assert not (clone / ".venv" / ".ready").exists()  # so that `make run` installs the rest
    assert library(4).name in kernels(clone)
    again = setup(clone)
    assert (again.returncode, "Installing" in again.stdout) == (0, False)


@pytest.mark.long
def test_pip_installs_where_uv_cannot_be_had(clone: Path) -> None:
    alter(clone / "requirements-uv.lock")
    done = setup(clone, CC="no-compiler")
    assert done.returncode == 0, done.stderr
    assert "uv cannot install here; pip does it" in done.stdout
    assert "there is no C compiler here (no-compiler).\n" in done.stdout
    assert version(clone) == "0.1.0"
    assert kernels(clone) == set()


def test_what_has_another_hash_is_not_installed(clone: Path) -> None:
    alter(clone / "requirements-try.lock")
    done = setup(clone)
    assert done.returncode != 0
    assert "pip cannot install either" in done.stderr
    assert "hash" in done.stderr.lower()
    assert not (clone / ".venv" / ".try").exists()


def test_uv_is_told_what_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "wheels"
    links.mkdir()
    (tmp_path / "pip.conf").write_text(
        "[global]\n"
        "index-url = https://overruled.example/simple\n"
        "cert = /etc/company.pem\n"
        "timeout = 60\n"
        "[install]\n"
        "index-url = https://packages.example/simple\n"
        "trusted-host = packages.example\n"
        "[list]\n"
        "format = json\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.delenv("PIP_CERT", raising=False)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://one.example/simple https://two.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{links} {tmp_path / 'missing'}")
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:3128")
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    install = program()
    told = install.uv_environment(install.pip_settings(listed.stdout), {"HOME": "/home/ann", "UV_HTTP_TIMEOUT": "5"})
    assert told == {
        "HOME": "/home/ann",
        "UV_DEFAULT_INDEX": "https://packages.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(links),
        "UV_INSECURE_HOST": "packages.example",
        "UV_HTTP_TIMEOUT": "5",
        "SSL_CERT_FILE": "/etc/company.pem",
        "HTTP_PROXY": "http://proxy.example:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }


def test_without_certificates_of_its_own_uv_trusts_the_system() -> None:
    told = program().uv_environment({}, {})
    assert told == {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "true"}


def test_what_try_needs_is_the_package_without_extras_and_what_builds_it() -> None:
    assert set(entries(CHECKOUT / "requirements-try.lock")) - ELSEWHERE == needed("ltr-pipeline") | built_by()


def test_uv_is_pinned_for_every_platform() -> None:
    (uv,) = entries(CHECKOUT / "requirements-uv.lock").values()
    assert re.match(r"uv==[\d.]+ \\\n", uv)
    assert uv.count("--hash=sha256:") > 10
