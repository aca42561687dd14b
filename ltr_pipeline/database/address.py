"""The address of a database: what it says of itself never has a password in it. It needs no driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from ltr_pipeline.errors import SettingsError

__all__ = ["CONNECTION", "VARIABLE", "Address", "postgresql_url"]

VARIABLE: Final = "LTR_DATABASE_URL"
CONNECTION: Final = "ltr_database"
"""Airflow's Connection that replaces the variable."""

FORMS: Final = "postgresql://USER:PASSWORD@HOST:5432/DATABASE or sqlite:///FILE"


@dataclass(frozen=True)
class Address:
    """Where a database is, and who logs in.

    Attributes
    ----------
    kind
        PostgreSQL, or SQLite in a file.
    host, port, user
        Of PostgreSQL; empty where its own defaults hold, as ``PGHOST``.
    name
        Name of the database, or path of SQLite's file.
    password
        Never shown.
    options
        Further parameters of the connection, such as ``sslmode``.
    """

    kind: Literal["postgresql", "sqlite"]
    name: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises
        ------
        SettingsError
            It is the address of no PostgreSQL and no SQLite, or cannot be read; the message does not repeat it.

        Examples
        --------
        >>> print(Address.parse("postgresql+psycopg2://ltr:secret@db.example:5432/sales"))
        PostgreSQL database sales at db.example:5432, user ltr
        >>> print(Address.parse("sqlite:///var/ltr.db"))
        SQLite file var/ltr.db
        """
        scheme, separator, rest = url.partition("://")
        dialect = scheme.partition("+")[0].lower()
        if not separator or dialect not in {"postgres", "postgresql", "sqlite"}:
            raise SettingsError(f"{VARIABLE} is no address of a database: write {FORMS}")
        if dialect == "sqlite":
            return cls(kind="sqlite", name=_file(rest.partition("?")[0]))
        try:
            parts = urlsplit(f"postgresql://{rest}")
            options = parse_qs(parts.query, strict_parsing=bool(parts.query))
            return cls(
                kind="postgresql",
                name=unquote(parts.path.removeprefix("/")),
                host=parts.hostname or "",
                port=parts.port,
                user=unquote(parts.username or ""),
                password=unquote(parts.password or ""),
                options={name: values[-1] for name, values in options.items()},
            )
        except ValueError:  # it may name a part of a password
            raise SettingsError(
                f"{VARIABLE} cannot be read: write {FORMS}, with the signs : / ? # @ % of a user or password as %3A "
                "%2F %3F %23 %40 %25"
            ) from None

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None for PostgreSQL, or a database in memory."""
        return Path(self.name) if self.kind == "sqlite" and self.name != ":memory:" else None

    def __str__(self) -> str:
        if self.kind == "sqlite":
            return f"SQLite file {self.name}"
        host = f" at {self.host}{f':{self.port}' if self.port else ''}" if self.host else ""
        return f"PostgreSQL database {self.name or '(default)'}{host}{f', user {self.user}' if self.user else ''}"


def postgresql_url(
    *, host: str, port: int | None, user: str, password: str, name: str, options: Mapping[str, str]
) -> str:
    """Return the URL of a database of PostgreSQL, whatever signs are in its parts."""
    secret = f":{quote(password, safe='')}" if password else ""
    login = f"{quote(user, safe='')}{secret}@" if user else ""
    where = f"{host}:{port}" if port else host
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{login}{where}/{quote(name, safe='')}{query}"


def _file(path: str) -> str:
    """Return the path after ``sqlite://``, of which SQLAlchemy counts the slashes: three relative, four absolute."""
    if path in {"", "/", "/:memory:"}:
        return ":memory:"
    if not path.startswith("/"):
        raise SettingsError(f"{VARIABLE} is no address of a file: write sqlite:///FILE, with three slashes")
    return unquote(path[1:])
