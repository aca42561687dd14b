"""Signatures: who holds a key can prove that documents, ledger entries and landed manifests are its own.

There are two kinds of keys. A shared secret signs by HMAC-SHA256: whoever can verify can also sign. An Ed25519 key
(RFC 8032) has a private part that signs, and a public one that only verifies; so the nightly run alone has the private
key, and services that read have the public one.

====================== ======================================================== =============
key                    as text                                                  signs
====================== ======================================================== =============
secret                 16 characters or more                                    yes
Ed25519, private       ``ed25519:`` and 64 hexadecimal digits (32 bytes)        yes
Ed25519, public        ``ed25519-public:`` and 64 hexadecimal digits (32 bytes) no
====================== ======================================================== =============
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ltr_pipeline.errors import SettingsError

__all__ = [
    "KEYS_SET",
    "SIGNATURE",
    "Key",
    "Secret",
    "as_keys",
    "make_private_key",
    "public_keys",
    "sign",
    "signed",
    "signing_keys",
]

SHORTEST_SECRET: Final = 16  # bytes
PRIVATE: Final = "ed25519:"
PUBLIC: Final = "ed25519-public:"
HMAC: Final = "hmac-sha256:"
SIGNATURE: Final = rf"(?:{HMAC}[0-9a-f]{{64}}|{PRIVATE}[0-9a-f]{{128}})"
"""Pattern of a signature as it is written."""

KEYS_SET: Final = "keys in LTR_SIGNING_KEY and LTR_VERIFY_KEYS"
"""How messages name the keys that were searched."""


class Key(Protocol):
    """A key that verifies signatures, and perhaps signs."""

    def sign(self, content: bytes) -> str | None:
        """Return the signature of the content; None when this key only verifies."""

    def verifies(self, signature: str, content: bytes) -> bool:
        """Return whether this key has made the signature of the content."""


@dataclass(frozen=True)
class Secret:
    """A shared secret."""

    secret: bytes = field(repr=False)

    def sign(self, content: bytes) -> str:
        """Return the HMAC-SHA256 of the content."""
        return HMAC + hmac.new(self.secret, content, hashlib.sha256).hexdigest()

    def verifies(self, signature: str, content: bytes) -> bool:
        """Return whether this secret has made the signature of the content."""
        return hmac.compare_digest(self.sign(content).encode(), signature.encode())


@dataclass(frozen=True)
class _Private:
    seed: bytes = field(repr=False)

    def sign(self, content: bytes) -> str:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return PRIVATE + Ed25519PrivateKey.from_private_bytes(self.seed).sign(content).hex()

    def verifies(self, signature: str, content: bytes) -> bool:
        return self.public.verifies(signature, content)

    @property
    def public(self) -> _Public:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return _Public(Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())


@dataclass(frozen=True)
class _Public:
    point: bytes

    def sign(self, content: bytes) -> None:  # noqa: ARG002 - it cannot
        return None

    def verifies(self, signature: str, content: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if not signature.startswith(PRIVATE):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.point).verify(bytes.fromhex(signature[len(PRIVATE) :]), content)
        except (InvalidSignature, ValueError):
            return False
        return True


def as_keys(keys: Sequence[Key | bytes]) -> tuple[Key, ...]:
    """Take bytes among the keys as shared secrets."""
    return tuple(Secret(key) if isinstance(key, bytes) else key for key in keys)


def signing_keys(text: str, verify: str = "") -> tuple[Key, ...]:
    """Return the keys of ``LTR_SIGNING_KEY`` and of ``LTR_VERIFY_KEYS``, each separated by white space.

    The first key that can sign signs, all verify.

    Raises
    ------
    SettingsError
        A key is too short, or is no key; the message does not show it.
    """
    signing = [_key(part, "LTR_SIGNING_KEY", number) for number, part in enumerate(text.split(), start=1)]
    verifying = [_key(part, "LTR_VERIFY_KEYS", number) for number, part in enumerate(verify.split(), start=1)]
    if signing and isinstance(signing[0], _Public):
        raise SettingsError("LTR_SIGNING_KEY: key 1 is public and cannot sign; put it into LTR_VERIFY_KEYS")
    return (*signing, *verifying)


def _key(text: str, setting: str, number: int) -> Key:
    for prefix, kind in ((PRIVATE, _Private), (PUBLIC, _Public)):
        if text.startswith(prefix):
            try:
                data = bytes.fromhex(text.removeprefix(prefix))
            except ValueError:
                data = b""
            if len(data) != 32:
                raise SettingsError(
                    f"{setting}: key {number} is not {prefix} and 64 hex digits; make one with `ltr keys`"
                )
            return kind(data)
    if len(text.encode()) < SHORTEST_SECRET:
        raise SettingsError(
            f"{setting}: key {number} is shorter than {SHORTEST_SECRET} bytes; make one with `ltr keys`"
        )
    return Secret(text.encode())


def make_private_key() -> str:
    """Make a new private Ed25519 key, as text for ``LTR_SIGNING_KEY``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return PRIVATE + Ed25519PrivateKey.generate().private_bytes_raw().hex()


def public_keys(keys: Sequence[Key]) -> list[str]:
    """Return the public parts of the Ed25519 keys, as text for ``LTR_VERIFY_KEYS``."""
    points = [key.public if isinstance(key, _Private) else key for key in keys]
    return [PUBLIC + key.point.hex() for key in points if isinstance(key, _Public)]


def sign(content: bytes, keys: Sequence[Key]) -> str | None:
    """Sign by the first key that can; None when there is none."""
    return next((signature for key in keys if (signature := key.sign(content)) is not None), None)


def signed(content: bytes, signature: str, keys: Sequence[Key]) -> bool:
    """Return whether one of the keys has made the signature of the content."""
    return any(key.verifies(signature, content) for key in keys)
