"""A real Apache Kafka: one broker in KRaft mode, from Maven's jars, on free ports of the loopback interface.

It listens five times: PLAINTEXT, SSL (which asks for a client certificate), SASL_PLAINTEXT and SASL_SSL (PLAIN and
SCRAM), and PROXIED, which sends clients to another port, where a test may put a proxy.
Tests take the fixture ``kafka`` of the conftest. As a program it runs until it is interrupted:

    python -m deploy.native.kafka [--port 9092] [--data FOLDER] [--topic match_events --partitions 4]

Java 17 or newer, Maven and openssl must be there. The jars are fetched once, to ``~/.cache/ltr-pipeline/kafka-VERSION``
(or the folder that ``LTR_CACHE`` names).
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.native.server import START_SECONDS, NoServerError, Server, kept, serve
from ltr_pipeline.local.ports import free_ports

VERSION: Final = "4.3.1"  # of 4.4.0, the newest, Central does not have every jar
NEEDED: Final = ("java", "mvn", "openssl")
USER, PASSWORD = "ltr", "correct-horse"
LISTENERS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "PROXIED", "CONTROLLER")

POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>ltr</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""

PROPERTIES: Final = """
process.roles={roles}
node.id={node}
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
num.partitions=1
message.max.bytes=8388608
# events of any time are kept, also those stamped in the future
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
log.message.timestamp.before.max.ms=9223372036854775807
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location={certificates}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={certificates}/ca.pem
listener.name.ssl.ssl.client.auth=required
"""

JAAS: Final = """
listener.name.{name}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.{name}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


def lacking() -> list[str]:
    """List the programs that are needed and not there."""
    return [program for program in NEEDED if not shutil.which(program)]


def jars() -> Path:
    """Return the folder of Kafka's jars; fetch them if they are not there yet."""
    with kept(f"kafka-{VERSION}") as folder:
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    print(f"Kafka {VERSION} is fetched by Maven, once; that may take minutes", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(POM.format(version=VERSION))
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={scratch}/jars"],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise NoServerError(f"Maven could not fetch Kafka {VERSION}:\n{done.stdout[-2000:]}")
        (Path(scratch) / "jars").rename(folder)


@dataclass(frozen=True)
class Certificates:
    """An authority, what it signed for the server and a client, and another authority that signed neither."""

    folder: Path

    ca = property(lambda self: self.folder / "ca.pem")
    client = property(lambda self: self.folder / "client.crt")
    client_key = property(lambda self: self.folder / "client.key")
    stranger = property(lambda self: self.folder / "stranger.pem")

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._authority("ca")
        self._authority("stranger")
        self._signed("server")
        self._signed("client")
        server = [self.folder / "server.key", self.folder / "server.crt"]
        (self.folder / "server.pem").write_text("".join(part.read_text() for part in server))

    def _authority(self, name: str) -> None:
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}", *files)

    def _signed(self, name: str) -> None:
        files = ("-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", *files)
        (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "30")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)


class KafkaServer(Server):
    """A broker with a folder of its own; `start` and `stop` as often as wanted, its data and ports stay.

    Parameters
    ----------
    folder
        Holds its data, certificates and log.
    port
        Of the listener PLAINTEXT; without one, a free one.
    joins
        A broker to whose cluster this one is added; it has to run first.
    settings
        Properties beside or instead of the usual ones.

    Attributes
    ----------
    ports
        Where it listens.
    proxy_port
        Where it sends clients that came by the listener PROXIED.
    """

    name = "Kafka"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        joins: KafkaServer | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.joins = joins
        self.settings = dict(settings or {})
        self.certificates = Certificates(self.folder / "certificates")
        *ports, self.proxy_port = free_ports(len(LISTENERS) + 1)
        self.ports = dict(zip(LISTENERS, ports, strict=True))
        if port is not None:
            self.ports["PLAINTEXT"] = port
        self.port = self.ports["PLAINTEXT"]
        self._properties = self.folder / "server.properties"

    @property
    def bootstrap(self) -> str:
        return self.address("PLAINTEXT")

    def address(self, protocol: str) -> str:
        return f"127.0.0.1:{self.ports[protocol]}"

    def start(self) -> None:
        self._configure()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        self._launch(_java("kafka.Kafka", self._properties), self._answers)

    def stop(self, how: signal.Signals | None = None) -> int | None:
        if self._process is not None:
            self.resume()
        return super().stop(how)

    def pause(self) -> None:
        """Let the broker accept connections, and never answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _configure(self) -> None:
        """Write the properties for the ports of this start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.certificates.folder / "server.pem").exists():
            self.certificates.make()
        clients = {name: port for name, port in self.ports.items() if name != "CONTROLLER"}
        advertised = clients | {"PROXIED": self.proxy_port}
        text = PROPERTIES.format(
            node=2 if self.joins else 1,
            roles="broker" if self.joins else "broker,controller",
            controller=(self.joins or self).address("CONTROLLER"),
            listeners=_addresses(clients if self.joins else self.ports),
            advertised=_addresses(advertised),
            data=self.folder / "data",
            certificates=self.certificates.folder,
        )
        for name in ("sasl_plaintext", "sasl_ssl"):
            text += JAAS.format(name=name, user=USER, password=PASSWORD)
        text += "".join(f"{name}={value}\n" for name, value in self.settings.items())
        self._properties.write_text(text)

    def _format(self) -> None:
        """Lay out the folder of the data, with the users."""
        format_storage = ["format", "--ignore-formatted", "-t", "bHRyLXBpcGVsaW5lLXRlcw", "-c", str(self._properties)]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            format_storage += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        command = _java("kafka.tools.StorageTool", *format_storage)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        if done.returncode:
            raise NoServerError(f"Kafka could not format {self.folder}:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        with contextlib.suppress(OSError, KafkaError):
            socket.create_connection(("127.0.0.1", self.ports["PLAINTEXT"]), timeout=1).close()
            with KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=2000) as admin:
                admin.list_topics()
            return True
        return False


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _java(main: str, *arguments: str | Path) -> list[str]:
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN"]
    return ["java", *options, "-cp", f"{jars()}/*", main, *map(str, arguments)]


def main() -> None:
    """Run Kafka until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, help="kept and used again; default: a temporary folder")
    parser.add_argument("--topic", help="is made, if it is not there")
    parser.add_argument("--partitions", type=int, default=4)
    given = parser.parse_args()
    if lacking():
        raise SystemExit(f"{', '.join(lacking())} must be installed")
    with tempfile.TemporaryDirectory(prefix="ltr-kafka-") as scratch:
        server = KafkaServer(given.data or Path(scratch), given.port)

        def ready() -> str:
            if given.topic:
                make_topic(server, given.topic, given.partitions)
            return f"Kafka {VERSION} on {server.bootstrap}"

        serve(server, ready)


def make_topic(server: KafkaServer, name: str, partitions: int = 1, **settings: str) -> None:
    """Make a topic, unless it is there."""
    from kafka import KafkaAdminClient

    with KafkaAdminClient(bootstrap_servers=server.bootstrap) as admin:
        if name not in admin.list_topics():
            about = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
            admin.create_topics({name: about}, wait_for_metadata=True)


if __name__ == "__main__":
    main()
