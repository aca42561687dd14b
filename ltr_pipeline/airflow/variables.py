"""Create the nights' Variables that this Airflow lacks, and say which value of each is in use.

``python -m ltr_pipeline.airflow.variables`` is the part of ``ltr variables`` that needs Airflow; its last line is JSON.
It writes to Airflow's database, so it runs where Airflow's own commands do, never in a task. With ``--look``, as
``ltr doctor`` asks, it creates nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import msgspec
from airflow.configuration import conf, ensure_secrets_loaded
from airflow.models import Variable
from airflow.secrets.environment_variables import VAR_ENV_PREFIX, EnvironmentVariablesBackend
from airflow.secrets.metastore import MetastoreBackend
from airflow.utils.session import create_session
from sqlalchemy import make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from ltr_pipeline import tuning
from ltr_pipeline.variables import DEFAULT, STORED, VARIABLES, Found, InUse

__all__ = ["create_missing", "look"]


def create_missing() -> Found:
    """Create each Variable of the nights that nothing gives a value, with its default; all others stay as they are."""
    return _found(_created)


def look() -> Found:
    """Return the value of each Variable of the nights, of those that nothing sets the default."""
    return _found(_default)


def _found(otherwise: Callable[[tuning.Variable], InUse]) -> Found:
    stored = _stored()
    variables = [_given(variable, stored) or otherwise(variable) for variable in VARIABLES]
    return Found(database=_database(), variables=variables, unknown=_unknown())


def _unknown() -> list[str]:
    """Return Variables, of the database or the environment, whose names begin as theirs, and that no night reads."""
    begin = f"{VAR_ENV_PREFIX}{tuning.PREFIX.upper()}"
    named = {name.removeprefix(VAR_ENV_PREFIX).lower() for name in os.environ if name.startswith(begin)}
    with create_session() as session:
        alike = Variable.key.startswith(tuning.PREFIX, autoescape=True)
        named.update(session.scalars(select(Variable.key).where(alike)))
    return sorted(named - {variable.name for variable in VARIABLES})


def _stored() -> dict[str, tuple[str | None, str | None]]:
    """Return value and description of the Variables in the database; a value that cannot be decrypted is None."""
    names = [variable.name for variable in VARIABLES]
    with create_session() as session:
        rows = session.scalars(select(Variable).where(Variable.key.in_(names)))
        return {row.key: (row.val, row.description) for row in rows}


def _given(variable: tuning.Variable, stored: dict[str, tuple[str | None, str | None]]) -> InUse | None:
    """Return the value that Airflow finds, asking in the order in which it asks; None when nothing has one."""
    name = variable.name
    for backend in ensure_secrets_loaded():
        if isinstance(backend, MetastoreBackend):
            continue  # the last one
        value = backend.get_variable(key=name)
        if value is not None:
            environment = isinstance(backend, EnvironmentVariablesBackend)
            source = f"{VAR_ENV_PREFIX}{name.upper()}" if environment else type(backend).__name__
            return InUse(name=name, value=str(value), source=source, shadowed=name in stored)
    if name in stored:
        value, description = stored[name]
        if value is None:
            return InUse(name=name, value=variable.default, source=DEFAULT, shadowed=True)
        return InUse(name=name, value=value, source=STORED, description=description)
    return None


def _created(variable: tuning.Variable) -> InUse:
    """Create a Variable; not by `Variable.set`, which would overwrite one that somebody has just made."""
    try:
        with create_session() as session:
            made = Variable(variable.name, variable.default, variable.description)  # type: ignore[no-untyped-call]
            session.add(made)
    except IntegrityError:
        return _given(variable, _stored()) or _default(variable)
    return InUse(
        name=variable.name, value=variable.default, source=STORED, created=True, description=variable.description
    )


def _default(variable: tuning.Variable) -> InUse:
    return InUse(name=variable.name, value=variable.default, source=DEFAULT)


def _database() -> str:
    return make_url(conf.get_mandatory_value("database", "sql_alchemy_conn")).render_as_string(hide_password=True)


if __name__ == "__main__":
    try:
        _seen = look() if sys.argv[1:] == ["--look"] else create_missing()
    except DBAPIError as error:
        sys.exit(
            f"Airflow's database {_database()} has no Variables: {str(error.orig).splitlines()[0]}; run "
            "`airflow db migrate` there first"
        )
    sys.stdout.write(msgspec.json.encode(_seen).decode() + "\n")
