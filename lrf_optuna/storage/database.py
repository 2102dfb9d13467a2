"""A database that several processes share: opened, locked for one writer at a time, its troubles said in one line.

Nothing here knows what a trial is. SQLite is in WAL mode, so that readers never block a writer nor a writer them.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lrf_optuna.errors import LrfError

optuna.logging.set_verbosity(optuna.logging.WARNING)

LOCK_SECONDS = 30.0
"""How long an SQLite database may be locked by others."""
GO_ON = "then the same command goes on from the trials that are recorded"
REMEDIES = {
    "disk is full": f"free some space, {GO_ON}",
    "No space left": f"free some space, {GO_ON}",
    "disk I/O error": f"see whether its disk is full or gone, {GO_ON}",
    "database is locked": f"another process keeps it locked: let it end or stop it, {GO_ON}",
    "readonly database": f"make the file, those beside it and its folder writable, {GO_ON}",
    "unable to open": f"see that its folder is there and may be written to, {GO_ON}",
    "onnection": f"see that the server runs and can be reached, {GO_ON}",
}
"""A part of what the database says -> what to do."""
BORN_TWICE = ("already exists", "duplicate key", "UNIQUE constraint", "Duplicate entry")
"""What a database says to the second of two processes that make its tables at the same moment."""


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for other databases. Raises LrfError for what is no URL of a lasting database."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LrfError(f"not a database URL: {url!r}; for example sqlite:///runs/my/study.db") from None
    if parsed.get_backend_name() != "sqlite":
        return None
    if parsed.database in (None, "", ":memory:"):
        raise LrfError(f"{url!r} is a database in memory, which ends with its process: give a file")
    return Path(str(parsed.database))


def root(reason: BaseException) -> str:
    """The first line of what the database itself said."""
    while reason.__cause__:
        reason = reason.__cause__
    return (str(reason) or type(reason).__name__).strip().splitlines()[0]


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Errors of the database as one line that says what to do."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error, OSError) as reason:
        said = root(reason)
        remedy = next((f"; {what}" for part, what in REMEDIES.items() if part in said), "")
        shown = make_url(url).render_as_string(hide_password=True)
        raise LrfError(f"the database {shown} cannot be used: {said}{remedy}") from reason
    except ImportError as reason:
        missing = getattr(reason.__cause__ or reason, "name", None)
        extra = "pip install 'lrf-optuna[postgres]'" if str(missing).startswith("psycopg") else "pip install it"
        raise LrfError(f"the database {url.split('://')[0]} needs the package {missing!r}: {extra}") from None


class Database:
    """An open database: Optuna's storage in it, and connections that read or write. Raises LrfError in any trouble."""

    def __init__(self, url: str) -> None:
        self.url, self.file = url, sqlite_file(url)
        with plain_errors(url):
            self.storage = connect(url)
            self.identity = identity(self.file)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        with plain_errors(self.url):
            self.check_file()
            with self.storage.engine.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: committed at the end, undone by any exception. SQLite lets in one writer at a time."""
        with self.reading() as connection:
            if self.file:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            self.check_file()
            connection.commit()

    def check_file(self) -> None:
        """Raises LrfError where the file is not the one that was opened: what is written would be lost unseen."""
        now = identity(self.file)
        if now != self.identity:
            what = "deleted" if now is None else "replaced by another"
            raise LrfError(
                f"the database file {self.file} was {what} while it was in use: put it back where it was or leave it, "
                "then the same command goes on from the trials in it, or from none"
            )


def identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one of its name; None for no file."""
    try:
        return None if file is None else (file.stat().st_dev, file.stat().st_ino)
    except FileNotFoundError:
        return None


def connect(url: str, attempts: int = 5) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`, made where there is none, be it by several processes at once."""
    try:
        return new_storage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as reason:
        if attempts == 1 or not any(part in root(reason) for part in BORN_TWICE):
            raise
    time.sleep(random.uniform(0.1, 0.3))
    return connect(url, attempts - 1)


def new_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`. Raises LrfError where another version of Optuna made the tables."""
    path = sqlite_file(url)
    options: dict[str, Any] = {"connect_args": {"timeout": LOCK_SECONDS}} if path else {"pool_pre_ping": True}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        into_wal(path)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
    except RuntimeError as reason:
        raise LrfError(f"the database {make_url(url).render_as_string(hide_password=True)}: {reason}") from None
    if path:
        event.listen(storage.engine, "connect", relaxed_sync)
        storage.engine.dispose()
    return storage


def into_wal(path: Path) -> None:
    """Let readers and a writer in at once. SQLite itself does not wait for another process that is just doing this."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                return
        except sqlite3.OperationalError as reason:
            if "locked" not in str(reason) or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.05, 0.15))


def relaxed_sync(connection: Any, _record: Any) -> None:
    """In WAL mode a commit survives the death of the process without waiting for the disk."""
    connection.execute("PRAGMA synchronous=NORMAL")
