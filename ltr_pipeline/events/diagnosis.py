"""Why brokers cannot be reached. Clients only say that they gave up; so each address is tried, layer by layer.

What shows that a setting is wrong (a certificate that is not trusted, TLS where none is spoken, a login that is not
asked for) is a SourceError that names it. All else is a SourceUnavailableError: it may be over in a minute.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final

from ltr_pipeline.errors import SourceError, SourceUnavailableError
from ltr_pipeline.events.connection import KafkaConnection

__all__ = ["diagnosed"]

SASL_HANDSHAKE: Final = 17
UNSUPPORTED_MECHANISM, NO_SASL_HERE = 33, 34
MAX_ANSWER: Final = 1 << 16

PROTOCOL: Final = "KAFKA_SECURITY_PROTOCOL"


def diagnosed(connection: KafkaConnection, said: str, seconds: float) -> SourceError:
    """The error that says best why no broker answers.

    Parameters
    ----------
    connection
        What was tried.
    said
        What the client said when it gave up.
    seconds
        How long to look, at most.
    """
    found = []
    for host, port in connection.servers:
        try:
            found.append(_looked_at(connection, host, port, seconds / len(connection.servers) / 3))
        except SourceError as error:
            return error
    return SourceUnavailableError(
        f"no broker of KAFKA_BOOTSTRAP_SERVERS answers within {connection.timeout_seconds:g} s "
        f"(LTR_KAFKA_TIMEOUT_SECONDS): {'; '.join(found)} ({said})"
    )


def _looked_at(connection: KafkaConnection, host: str, port: int, seconds: float) -> str:
    """What is the matter with an address, in words; a SourceError where a setting is."""
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), seconds) as plain:
            context = connection.tls()
            if context is None:
                sasl = _sasl(plain, connection)
            else:
                with context.wrap_socket(plain, server_hostname=host) as secure:
                    sasl = _sasl(secure, connection)
        return _judged(connection, where, sasl)
    except ssl.SSLError as error:
        return _judged_tls(where, error)
    except socket.gaierror:
        return f"{where} has no such host"
    except TimeoutError:
        return f"{where} accepts connections and does not answer, or lets none through"
    except (ConnectionError, EOFError) as error:
        if not connection.encrypts and _speaks_tls(host, port, seconds):
            raise SourceError(f"{where} speaks TLS, but {PROTOCOL} is {connection.security_protocol}") from None
        return f"{where}: {str(error) or 'closes the connection'}"
    except OSError as error:
        return f"{where}: {error.strerror}"


def _sasl(stream: socket.socket, connection: KafkaConnection) -> int:
    """What a broker says to the beginning of a login: 0 (go on) or the code of an error."""
    mechanism = (connection.sasl_mechanism or "PLAIN").encode()
    body = struct.pack(">hhihh", SASL_HANDSHAKE, 1, 1, -1, len(mechanism)) + mechanism
    stream.sendall(struct.pack(">i", len(body)) + body)
    size, _, code = struct.unpack(">iih", _received(stream, 10))
    if not 6 <= size <= MAX_ANSWER:
        raise EOFError("does not speak Kafka's protocol")
    return int(code)


def _received(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError("closes the connection")
        data += more
    return data


def _judged(connection: KafkaConnection, where: str, sasl: int) -> str:
    protocol = connection.security_protocol
    if connection.logs_in and sasl == NO_SASL_HERE:
        raise SourceError(f"{where} asks for no login, but {PROTOCOL} is {protocol}")
    if connection.logs_in and sasl == UNSUPPORTED_MECHANISM:
        raise SourceError(f"{where} does not offer the KAFKA_SASL_MECHANISM {connection.sasl_mechanism}")
    if not connection.logs_in and sasl in (0, UNSUPPORTED_MECHANISM):
        raise SourceError(f"{where} asks for a login, but {PROTOCOL} is {protocol}")
    return f"{where} answers, but the cluster does not"


def _judged_tls(where: str, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        raise SourceError(
            f"the certificate of {where} is not trusted: {error.verify_message}; check KAFKA_SSL_CAFILE"
        ) from None
    said = str(error.reason or "").replace("_", " ").lower()
    if "alert" in said:
        raise SourceError(
            f"{where} refuses the client's certificate: {said}; check KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"
        ) from None
    if "wrong version" in said or "record layer" in said:
        raise SourceError(f"{where} does not speak TLS, but {PROTOCOL} says so") from None
    return f"{where} breaks off the TLS handshake; check {PROTOCOL}"


def _speaks_tls(host: str, port: int, seconds: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
