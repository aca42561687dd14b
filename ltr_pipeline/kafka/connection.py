"""How to reach a topic: addresses, login and certificates, checked before anything is connected."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ltr_pipeline.errors import SettingsError

__all__ = ["Client", "KafkaConnection", "Mechanism", "Protocol"]

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Client = Literal["auto", "kafka-python", "confluent-kafka"]

TOPIC: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """How to reach a topic. Each field is an environment variable, which the messages name.

    Attributes
    ----------
    bootstrap_servers
        ``KAFKA_BOOTSTRAP_SERVERS``: addresses, ``host:port``, separated by commas.
    topic
        ``KAFKA_TOPIC``.
    group_id
        ``KAFKA_GROUP_ID``: the consumer group whose offsets show what has landed.
    security_protocol
        ``KAFKA_SECURITY_PROTOCOL``.
    sasl_mechanism, username, password
        ``KAFKA_SASL_MECHANISM``, ``KAFKA_SASL_USERNAME``, ``KAFKA_SASL_PASSWORD``: the login, with SASL only.
    ca_file
        ``KAFKA_SSL_CAFILE``: PEM file of the authorities that must have signed the brokers' certificates; None = the
        system's.
    cert_file, key_file
        ``KAFKA_SSL_CERTFILE``, ``KAFKA_SSL_KEYFILE``: PEM files of the client's certificate and its key, if the brokers
        ask for one.
    timeout_seconds
        ``LTR_KAFKA_TIMEOUT_SECONDS``: how long brokers may stay silent.
    client
        ``LTR_KAFKA_CLIENT``: library that reads messages; ``auto`` is confluent-kafka where it is installed.

    Raises
    ------
    SettingsError
        A value is not allowed, or two contradict each other; the message names every wrong one and shows none.
    """

    bootstrap_servers: str = "localhost:9092"
    topic: str = "match_events"
    group_id: str = "ltr_etl_consumer"
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_seconds: float = 30.0
    client: Client = "auto"

    def __post_init__(self) -> None:
        if wrong := [*self._wrong_addresses(), *self._wrong_security()]:
            raise SettingsError("; ".join(wrong))

    def _wrong_addresses(self) -> Iterator[str]:
        for place, server in enumerate(self.bootstrap_servers.split(","), start=1):
            match = SERVER.fullmatch(server.strip())
            if not match or not 0 < int(match[2]) < 1 << 16:
                yield f"KAFKA_BOOTSTRAP_SERVERS: address {place} is not host:port; separate several by commas"
        if not TOPIC.fullmatch(self.topic):
            yield "KAFKA_TOPIC is no name of a topic: use up to 249 letters, digits, '.', '_' and '-'"
        if not self.group_id.strip():
            yield "KAFKA_GROUP_ID is empty; name a consumer group, such as ltr_etl_consumer"
        if not 0.1 <= self.timeout_seconds <= 3600:
            yield "LTR_KAFKA_TIMEOUT_SECONDS must be a number from 0.1 to 3600"
        if self.client not in get_args(Client):
            yield f"LTR_KAFKA_CLIENT must be one of {', '.join(get_args(Client))}"

    def _wrong_security(self) -> Iterator[str]:
        protocol = self.security_protocol
        if protocol not in get_args(Protocol):
            yield f"KAFKA_SECURITY_PROTOCOL must be one of {', '.join(get_args(Protocol))}"
            return
        if self.sasl_mechanism is not None and self.sasl_mechanism not in get_args(Mechanism):
            yield f"KAFKA_SASL_MECHANISM must be one of {', '.join(get_args(Mechanism))}"
        login = {
            "KAFKA_SASL_MECHANISM": self.sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.username,
            "KAFKA_SASL_PASSWORD": self.password,
        }
        files = {
            "KAFKA_SSL_CAFILE": self.ca_file,
            "KAFKA_SSL_CERTFILE": self.cert_file,
            "KAFKA_SSL_KEYFILE": self.key_file,
        }
        for name, value in login.items():
            if self.logs_in and not value:
                yield f"{name} is not set, but KAFKA_SECURITY_PROTOCOL is {protocol}"
            if value and not self.logs_in:
                yield f"{name} is set, but KAFKA_SECURITY_PROTOCOL is {protocol}; set it to SASL_SSL or SASL_PLAINTEXT"
        for name, file in files.items():
            if file and not self.encrypts:
                yield f"{name} is set, but KAFKA_SECURITY_PROTOCOL is {protocol}; set it to SSL or SASL_SSL"
        if bool(self.cert_file) != bool(self.key_file):
            yield "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE go together: set both, or none"

    @property
    def servers(self) -> list[tuple[str, int]]:
        """Host and port of each address."""
        matches = (SERVER.fullmatch(server.strip()) for server in self.bootstrap_servers.split(","))
        return [(match[1].strip("[]"), int(match[2])) for match in matches if match]

    @property
    def logs_in(self) -> bool:
        """Return whether the brokers ask for a user and password."""
        return self.security_protocol.startswith("SASL_")

    @property
    def encrypts(self) -> bool:
        """Return whether connections are TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def reads_with(self) -> str:
        """Library that reads messages."""
        if self.client != "auto":
            return self.client
        return "confluent-kafka" if find_spec("confluent_kafka") else "kafka-python"

    def tls(self) -> ssl.SSLContext | None:
        """Make the context of TLS connections; None without TLS.

        Raises
        ------
        SettingsError
            A certificate file cannot be read.
        """
        if not self.encrypts:
            return None
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            with _naming("KAFKA_SSL_CAFILE", self.ca_file):
                context.load_verify_locations(self.ca_file)
        if self.cert_file and self.key_file:
            with _naming("KAFKA_SSL_CERTFILE", self.cert_file):
                self.cert_file.read_bytes()
            with _naming("KAFKA_SSL_KEYFILE", self.key_file):
                self.key_file.read_bytes()
            with _naming("KAFKA_SSL_CERTFILE or KAFKA_SSL_KEYFILE", self.cert_file):
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        return context

    def for_kafka_python(self) -> dict[str, Any]:
        """Return the security settings in the form that kafka-python takes."""
        settings: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap_servers.split(",")],
            "security_protocol": self.security_protocol,
            "ssl_context": self.tls(),
        }
        if self.logs_in:
            settings["sasl_mechanism"] = self.sasl_mechanism
            settings["sasl_plain_username"] = self.username
            settings["sasl_plain_password"] = self.password
        return settings

    def for_confluent(self) -> dict[str, Any]:
        """Return the security settings in the form that confluent-kafka takes."""
        self.tls()  # names a file that cannot be read
        settings = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.ca.location": self.ca_file and str(self.ca_file),
            "ssl.certificate.location": self.cert_file and str(self.cert_file),
            "ssl.key.location": self.key_file and str(self.key_file),
        }
        return {name: value for name, value in settings.items() if value}


@contextmanager
def _naming(setting: str, file: Path) -> Iterator[None]:
    """Turn an error about a file into one that names its setting."""
    try:
        yield
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"{setting}: {file} is no usable PEM file ({_short(error)}); give PEM files, and a key without a "
            "password that belongs to its certificate"
        ) from None
    except OSError as error:
        raise SettingsError(f"{setting}: {file} cannot be read: {error.strerror}") from None


def _short(error: BaseException) -> str:
    return getattr(error, "reason", None) or type(error).__name__


def _no_password() -> str:
    raise ValueError("the key has a password")
