"""A real S3 server on loopback: MinIO, built once from its source and kept in the user's cache.

As a program it runs until it is stopped, with its data, its credentials and its log in one folder::

    python tests/services/s3_server.py var/s3 --port 9000 --bucket litgo-models
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"  # pinned: `go install` names MinIO's releases by commit only
BUILD_SECONDS = 900
START_SECONDS = 60
BUCKET = "litgo-models"


class NoServerError(Exception):
    """The server cannot be built or started here; the message says what is needed."""


def binary() -> Path:
    """MinIO's program, built by Go on the first call on this machine; NoServerError without Go or a network."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltr-pipeline"
    program = cache / f"minio-{MINIO}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "minio.lock").open("w") as lock:  # one build at a time, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"]))
    if not go:
        raise NoServerError("install Go (https://go.dev/dl/): MinIO is built from its source")
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        command = [go, "install", "-trimpath", "-ldflags=-s -w", f"github.com/minio/minio@{MINIO}"]
        try:
            environment = os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"}
            subprocess.run(
                command, env=environment, cwd=folder, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS
            )
        except subprocess.CalledProcessError as error:
            raise NoServerError(f"make `{' '.join(command)}` work; it says: {error.stderr[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise NoServerError(f"`{' '.join(command)}` takes more than {BUILD_SECONDS} s; run it by hand") from error
        (Path(folder) / "minio").replace(program)


def free_port() -> int:
    """A port that nobody has, below those that clients get: one of these may be gone when a server comes back."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NoServerError("100 ports between 20000 and 32000 are taken")


class S3Server:
    """MinIO over a folder; `stop` and `start` keep address, credentials and data.

    Parameters
    ----------
    folder
        Holds ``data/``, ``credentials.json`` and ``minio.log``.
    port
        On loopback; without one, a free one.
    certificates
        Folder with ``public.crt`` and ``private.key``: then the server speaks TLS only.
    """

    def __init__(self, folder: Path, port: int | None = None, certificates: Path | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.certificates = certificates
        self.access_key_id, self.secret_access_key = self._credentials()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the pipeline has to be told to use this server."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": "us-east-1",
        }

    def _credentials(self) -> tuple[str, str]:
        file = self.folder / "credentials.json"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as out:
                json.dump([secrets.token_hex(8), secrets.token_hex(20)], out)
        user, password = json.loads(file.read_text())
        return user, password

    def start(self) -> None:
        """Start, and wait until it serves; NoServerError with the end of its log when it does not."""
        (self.folder / "data").mkdir(exist_ok=True)
        certificates = self.certificates or self.folder / "certificates"
        certificates.mkdir(exist_ok=True)
        command = [str(binary()), "server", "--quiet", "--address", f"127.0.0.1:{self.port}"]
        command += ["--certs-dir", str(certificates), str(self.folder / "data")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MINIO_", "AWS_"))}
        environment |= {
            "MINIO_ROOT_USER": self.access_key_id,
            "MINIO_ROOT_PASSWORD": self.secret_access_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        with (self.folder / "minio.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log_end = (self.folder / "minio.log").read_text(errors="replace")[-1000:]
                raise NoServerError(f"MinIO does not serve within {START_SECONDS} s; its log ends: {log_end}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        if self.certificates:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop and wait; SIGKILL for a server that dies."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._process = None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self) -> Any:
        """Plain boto3 client of the server's owner."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            verify=str(self.certificates / "public.crt") if self.certificates else None,
        )

    def make_bucket(self, bucket: str = BUCKET) -> str:
        """Make the bucket unless it is there; its name."""
        client = self.client()
        if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
        return bucket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for data, credentials and log")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--bucket", default=BUCKET, help="made unless it is there")
    chosen = parser.parse_args()
    server = S3Server(chosen.folder.absolute(), chosen.port)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        server.start()
        server.make_bucket(chosen.bucket)
        print(f"MinIO serves {server.endpoint}, bucket {chosen.bucket}; its keys are in {server.folder}", flush=True)
        while server.running():
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


if __name__ == "__main__":
    main()
