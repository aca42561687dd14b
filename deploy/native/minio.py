"""A real S3 server on loopback: MinIO, built once from its source and kept in the user's cache.

As a program it runs until it is stopped, with its data, its credentials and its log in one folder::

    python -m deploy.native.minio var/s3 --port 9000 --bucket litgo-models
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.native.server import NoServerError, Server, kept, serve
from ltr_pipeline.local.ports import free_port

MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"  # pinned: `go install` names MinIO's releases by commit only
MC = "v0.0.0-20250313080218-cf909e1063a9"  # the one that this MinIO names in its go.mod
BUILD_SECONDS = 3600  # on a slow machine
LOGIN_SECONDS = 3600
BUCKET = "litgo-models"
LOGINS = Path(__file__).parents[1] / "minio" / "logins.sh"


def binary(name: str = "minio", version: str = MINIO) -> Path:
    """Return a program of MinIO's; Go builds it on the first call on this machine.

    NoServerError without Go or a network.
    """
    with kept(f"{name}-{version}") as program:
        if not program.exists():
            _build(program, name, version)
    return program


def make_logins(environment: Mapping[str, str]) -> None:
    """Make bucket, policies and logins by the script and the variables of the compose file's ``minio-init``."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "MC": str(binary("mc", MC))} | dict(environment)
    done = subprocess.run(
        ["bash", str(LOGINS)], env=environment, capture_output=True, text=True, check=False, timeout=LOGIN_SECONDS
    )
    if done.returncode:
        raise NoServerError(f"{LOGINS.name} could not make MinIO's logins: {(done.stdout + done.stderr)[-1000:]}")


def _build(program: Path, name: str, version: str) -> None:
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"]))
    if not go:
        raise NoServerError("install Go (https://go.dev/dl/): MinIO is built from its source")
    print(f"{name} is built from its source, once; that may take minutes", flush=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        command = [go, "install", "-trimpath", "-ldflags=-s -w", f"github.com/minio/{name}@{version}"]
        try:
            environment = os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"}
            subprocess.run(
                command, env=environment, cwd=folder, check=True, capture_output=True, text=True, timeout=BUILD_SECONDS
            )
        except subprocess.CalledProcessError as error:
            raise NoServerError(f"make `{' '.join(command)}` work; it says: {error.stderr[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise NoServerError(f"`{' '.join(command)}` takes more than {BUILD_SECONDS} s; run it by hand") from error
        (Path(folder) / name).replace(program)


class S3Server(Server):
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

    name = "MinIO"

    def __init__(self, folder: Path, port: int | None = None, certificates: Path | None = None) -> None:
        super().__init__(folder)
        self.port = port or free_port()
        self.certificates = certificates
        self.access_key_id, self.secret_access_key = self._credentials()

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that make the pipeline use this server."""
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
        self._launch(command, self._ready, env=environment)

    def _ready(self) -> bool:
        if self.certificates:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def client(self) -> Any:
        """Return a plain boto3 client of the server's owner."""
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
        """Make the bucket unless it is there; return its name."""
        client = self.client()
        if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
        return bucket


def main() -> None:
    """Run MinIO until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for data, credentials and log")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--bucket", default=BUCKET, help="made unless it is there")
    chosen = parser.parse_args()
    server = S3Server(chosen.folder, chosen.port)

    def ready() -> str:
        server.make_bucket(chosen.bucket)
        return f"MinIO serves {server.endpoint}, bucket {chosen.bucket}; its keys are in {server.folder}"

    serve(server, ready)


if __name__ == "__main__":
    main()
