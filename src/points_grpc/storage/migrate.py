"""Migrations: brings a database to the schema of this program, and says which revision it has.

The only module that imports alembic, which takes most of a second; a server asks `engine.require_schema` instead.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from points_grpc.service.ports import StorageUnavailable
from points_grpc.storage.engine import Database, is_there, named, require_known
from points_grpc.storage.faults import DRIVER_ERRORS, translate

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(url: str, revision: str = "head") -> str:
    """Runs the migrations that the database lacks, each in a transaction, and returns the revision that it has then.

    Raises `SchemaMismatch` where a newer program wrote it.
    """
    database = Database(url)
    require_known(database, current(url))
    try:
        engine = database.backend.migrator()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageUnavailable(f"the folder of {database.backend.place} cannot be made: {reason}") from error
    try:
        with _in_our_words(), engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        with _in_our_words(), engine.begin() as connection:
            database.backend.finish(connection)
    except DRIVER_ERRORS as error:
        raise translate(error) from error
    finally:
        engine.dispose()
        database.close()
    return current(url) or ""


def current(url: str) -> str | None:
    """The revision that the database has; None if it has none, or is not there, which it is afterwards, too."""
    database = Database(url)
    if not is_there(database):
        return None
    try:
        with _in_our_words(), database.reader.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except StorageUnavailable as error:
        raise named(database, error) from error
    finally:
        database.close()


def head() -> str:
    """The revision that this program was written for."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None
    return newest


def sql(url: str, revisions: str = "head") -> str:
    """The SQL of the migrations, for those who run it by hand; `revisions` as `from:to`, or `to` for all before it."""
    out = io.StringIO()
    config = _config(out)
    config.attributes["url"] = url
    command.upgrade(config, revisions, sql=True)
    return out.getvalue()


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error) from error


def _config(out: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=out) if out is not None else Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
