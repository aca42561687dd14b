"""Set up .venv: what a lock pins, and this checkout; `make` calls it with the system's Python.

    python3 deploy/install.py [--try]

uv installs, as it takes seconds where pip takes minutes; pip puts that one wheel into .venv first. Every package is
held against the hashes of the lock. A company's index and certificates count: what pip is told, uv is told. Where uv
cannot be had or fails, pip installs.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
PIP = (str(PYTHON), "-m", "pip", "--disable-pip-version-check")
STEP = 25
"""Packages between two signs of life of pip."""
PROGRESS = r"(Resolved|Downloading|Prepared|Installed|Installing collected packages:) "
"""Beginning of the lines of uv and pip that are shown as they are."""
TAIL = 30
"""Lines that are shown of a command that fails."""


class Part(NamedTuple):
    """A set that can be installed: its lock, the words for it, and the stamps that say it is there."""

    lock: str
    words: str
    then: str
    stamps: tuple[str, ...]


ALL = Part(
    lock="requirements.lock",
    words="the pipeline with Airflow, the service and its tests: {count} packages, about 1.5 GB on disk",
    then="Everything is installed.",
    stamps=(".ready", ".try"),
)
TRY = Part(
    lock="requirements-try.lock",
    words="what `ltr try` needs, without Airflow: {count} packages, about 0.7 GB on disk",
    then=".venv/bin/ltr try LOG says whether a log of yours would pass the gate; `make run` installs the rest.",
    stamps=(".try",),
)


def main() -> None:
    """Install, saying what is done."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whichever Python the system has runs this
        sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--try", action="store_true", dest="only_try", help="install only what `ltr try` needs")
    part = TRY if parser.parse_args().only_try else ALL
    _say(f"Creating {VENV} with Python {sys.version.split()[0]}.")
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
        sys.exit(f"{VENV} cannot be created; see Python's message above")
    _say(f"Installing {part.words.format(count=_count(part))}.")
    if not (_has_uv() and _installed_by_uv(part)):
        _install_by_pip(part)
    _compile()
    for stamp in part.stamps:
        (VENV / stamp).touch()
    _say(part.then)


def _count(part: Part) -> int:
    """Count the packages of the lock; some are for another platform or Python."""
    return len(set(re.findall(r"^([\w.-]+)==", (ROOT / part.lock).read_text(encoding="utf-8"), re.MULTILINE)))


def _has_uv() -> bool:
    """Put the pinned uv into .venv."""
    done = subprocess.run(
        [*PIP, "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements-uv.lock")], check=False
    )
    return done.returncode == 0


def _installed_by_uv(part: Part) -> bool:
    pip = _pip_settings()
    install = [str(UV), "pip", "install", "--python", str(PYTHON)]
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        install.append("--no-index")
    environment = uv_environment(pip, dict(os.environ))
    return all(_shown([*install, *what], environment) for what in _wanted(part))


def _install_by_pip(part: Part) -> None:
    _say("uv cannot install here; pip does it, which takes a few minutes.")
    if not all(_shown([*PIP, "install", *what], dict(os.environ)) for what in _wanted(part)):
        sys.exit("pip cannot install either; what it says of it stands above")


def _compile() -> None:
    """Compile the scoring kernel, or say that there is none: everything works without."""
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "deploy" / "kernel.py")], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        _say(f"Numpy scores models, which takes several times as long as the compiled kernel: {done.stderr.strip()}.")
        _say("Install a C compiler, such as gcc, and call .venv/bin/python deploy/kernel.py")


def _wanted(part: Part) -> tuple[list[str], list[str]]:
    """Arguments that install the lock, and then the checkout itself, which the lock's packages build."""
    checkout = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    return ["--require-hashes", "-r", str(ROOT / part.lock)], checkout


def _shown(command: list[str], environment: dict[str, str]) -> bool:
    """Run a command and show how far it is; its last lines when it fails."""
    lines: list[str] = []
    collected = 0
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("Collecting "):  # pip says so of each package
                collected += 1
                if collected % STEP == 0:
                    _say(f"  {collected} packages found")
            elif re.match(PROGRESS, line):
                _say(f"  {line.strip():.70}")
    if process.returncode:
        print("".join(lines[-TAIL:]), file=sys.stderr, flush=True)
    return process.returncode == 0


def _pip_settings() -> dict[str, str]:
    """Return the settings that pip has from its files and its environment, by the names of its options."""
    listed = subprocess.run([*PIP, "config", "list"], stdout=subprocess.PIPE, text=True, check=False).stdout
    return pip_settings(listed)


def pip_settings(listed: str) -> dict[str, str]:
    r"""Options in what ``pip config list`` prints, ``install`` before global, the environment before both.

    >>> pip_settings("global.index-url='https://a/simple'\n:env:.index-url='https://b/simple'\nlist.format='json'")
    {'index-url': 'https://b/simple'}
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(['\"].*)$", listed, re.MULTILINE):
            found[name.replace("_", "-")] = str(ast.literal_eval(value))
    return found


def uv_environment(pip: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """Environment in which uv does what pip would do; what is meant for uv alone (UV_…) stays as it is.

    pip takes a package from whichever index has it; so does uv then, which by itself stops at the first one that knows
    the name. What is installed is the same, as the lock holds its hash.

    >>> uv_environment({"index-url": "https://packages.example/simple"}, {"HOME": "/home/ann"})["UV_DEFAULT_INDEX"]
    'https://packages.example/simple'
    """
    authorities = pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    links = [link for link in pip.get("find-links", "").split() if "://" in link or Path(link).exists()]
    told = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": ",".join(links),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "UV_KEYRING_PROVIDER": "subprocess" if pip.get("keyring-provider") == "subprocess" else None,
        "UV_SYSTEM_CERTS": None if authorities else "true",
        "SSL_CERT_FILE": authorities,
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "HTTP_PROXY": pip.get("proxy"),
        "HTTPS_PROXY": pip.get("proxy"),
    }
    own = {name for name in environment if name.startswith("UV_")}
    return environment | {name: value for name, value in told.items() if value and name not in own}


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
