"""Reasons why brokers cannot be reached. Clients only say that they gave up, so each address is tried, layer by layer.

A wrong setting (a certificate that is not trusted, TLS where none is spoken, a refused login) becomes a SourceError
that names the setting. Everything else is a SourceUnavailableError, as it may be over in a minute.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final, Literal

from ltr_pipeline.errors import SourceError, SourceUnavailableError
from ltr_pipeline.kafka.connection import KafkaConnection

__all__ = ["diagnosed", "forbidden", "refused"]

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36  # requests of Kafka's protocol
UNSUPPORTED_MECHANISM, NO_LOGIN_HERE = 33, 34  # its errors
MAX_ANSWER: Final = 1 << 16
LEAST_SECONDS: Final = 1.0  # brokers take their time to refuse a login

PROTOCOL: Final = "KAFKA_SECURITY_PROTOCOL"


def diagnosed(connection: KafkaConnection, said: str, seconds: float) -> SourceError:
    """Return the error that says best why no broker answers.

    Parameters
    ----------
    connection
        Connection that failed.
    said
        Message of the client when it gave up.
    seconds
        About how long to look.
    """
    found = []
    for host, port in connection.servers:
        try:
            share = max(LEAST_SECONDS, seconds / len(connection.servers) / 2)
            found.append(f"{host}:{port} {_look(connection, host, port, share)}")
        except SourceError as error:
            return error
    return SourceUnavailableError(
        f"no broker of KAFKA_BOOTSTRAP_SERVERS answers within {connection.timeout_seconds:g} s "
        f"(LTR_KAFKA_TIMEOUT_SECONDS): {'; '.join(found)} ({said})"
    )


def refused(connection: KafkaConnection) -> SourceError:
    """Return the error for a login that the brokers refuse."""
    return SourceError(
        f"the brokers refuse the login of {connection.username!r}: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and "
        "KAFKA_SASL_MECHANISM"
    )


def forbidden(connection: KafkaConnection, right: str, resource: Literal["topic", "group"]) -> SourceError:
    """Return the error for a right that the user lacks."""
    names = {"topic": ("KAFKA_TOPIC", connection.topic), "group": ("KAFKA_GROUP_ID", connection.group_id)}
    variable, name = names[resource]
    user = f"the user {connection.username!r}" if connection.logs_in else "a client without a login"
    return SourceError(
        f"{variable} {name}: {user} lacks the right {right} on this {resource}; have it granted, or correct {variable}"
    )


def _look(connection: KafkaConnection, host: str, port: int, seconds: float) -> str:
    """Say what is wrong with an address; SourceError when a setting is wrong."""
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), seconds) as plain:
            context = connection.tls()
            if context is None:
                _begin(plain, connection, where)
            else:
                with context.wrap_socket(plain, server_hostname=host) as secure:
                    _begin(secure, connection, where)
    except ssl.SSLCertVerificationError as error:
        raise SourceError(
            f"the certificate of {where} is not trusted: {error.verify_message}; check KAFKA_SSL_CAFILE"
        ) from None
    except TimeoutError:
        return "does not answer"
    except (OSError, EOFError) as error:
        if "ALERT" in str(error):
            raise SourceError(
                f"{where} refuses the client's certificate; check KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
            ) from None
        if _speaks_tls(host, port, seconds) == (not connection.encrypts):
            does = "does not speak TLS" if connection.encrypts else "speaks TLS"
            raise SourceError(f"{where} {does}, but {PROTOCOL} is {connection.security_protocol}") from None
        return f"cannot be used: {error}"
    return "answers, but the cluster does not"


def _speaks_tls(host: str, port: int, seconds: float) -> bool | None:
    """Return whether the address speaks TLS; None when it speaks neither TLS nor Kafka's protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        pass
    try:
        with socket.create_connection((host, port), seconds) as plain:
            _ask(plain, SASL_HANDSHAKE, 1, _text(b"PLAIN"))
            return False
    except (OSError, EOFError):
        return None


def _begin(stream: socket.socket, connection: KafkaConnection, where: str) -> None:
    """Log in if the broker asks for it; SourceError when the settings say otherwise, or the login fails."""
    mechanism = connection.sasl_mechanism or "PLAIN"
    (code,) = struct.unpack_from(">h", _ask(stream, SASL_HANDSHAKE, 1, _text(mechanism.encode())))
    asked = code in (0, UNSUPPORTED_MECHANISM)
    if asked != connection.logs_in and code in (0, UNSUPPORTED_MECHANISM, NO_LOGIN_HERE):
        asks = "asks for a login" if asked else "asks for no login"
        raise SourceError(f"{where} {asks}, but {PROTOCOL} is {connection.security_protocol}")
    if code == UNSUPPORTED_MECHANISM:
        raise SourceError(f"{where} does not offer the KAFKA_SASL_MECHANISM {mechanism}")
    if code == 0 and not _log_in(stream, connection):
        raise refused(connection)


def _log_in(stream: socket.socket, connection: KafkaConnection) -> bool:
    from kafka.net.sasl import get_sasl_mechanism

    exchange = get_sasl_mechanism(connection.sasl_mechanism)(**connection.for_kafka_python())
    while not exchange.is_done():
        token = exchange.auth_bytes()
        answer = _ask(stream, SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        code, length = struct.unpack_from(">hh", answer)
        if code:
            return False
        exchange.receive(answer[8 + max(0, length) :])
    return bool(exchange.is_authenticated())


def _text(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


def _ask(stream: socket.socket, request: int, version: int, body: bytes) -> bytes:
    """Send a request, and return the body of the broker's answer."""
    message = struct.pack(">hhih", request, version, 1, -1) + body
    stream.sendall(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", _received(stream, 4))
    if not 6 <= size <= MAX_ANSWER:
        raise EOFError("no Kafka broker answers there")
    return _received(stream, size)[4:]


def _received(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError("the connection is closed")
        data += more
    return data
