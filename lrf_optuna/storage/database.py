"""A database that several processes share: opening it, sessions that read or write, and errors as one line.

Nothing here knows about trials. SQLite is in WAL mode, so that readers and one writer never wait for each other.
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
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from lrf_optuna.errors import LrfError

LOCK_SECONDS = 30.0
"""Seconds that a process waits for the lock of an SQLite database. A batch holds the lock for about 0.1 seconds."""
RESUME = "then the same command goes on from the trials that are recorded"
REMEDIES = {
    "disk is full": f"free some space, {RESUME}",
    "No space left": f"free some space, {RESUME}",
    "disk I/O error": f"see whether its disk is full or gone, {RESUME}",
    "database is locked": f"another process keeps it locked: let it end or stop it, {RESUME}",
    "readonly database": f"make the file, those beside it and its folder writable, {RESUME}",
    "unable to open": f"see that its folder is there and may be written to, {RESUME}",
    "onnection": f"see that the server runs and can be reached, {RESUME}",
}
"""A part of a database's error message -> the remedy that the user reads."""
DELETED = "the study was deleted from the database while it was in use: run the same command again"
RACES = ("already exists", "duplicate key", "UNIQUE constraint", "Duplicate entry", "locked")
"""Parts of the error message that a process gets where another one creates the tables or switches to WAL just then."""


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for another database. Raises LrfError for an invalid URL and for `:memory:`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LrfError(f"not a database URL: {url!r}; for example sqlite:///runs/my/study.db") from None
    if parsed.get_backend_name() != "sqlite":
        return None
    if parsed.database in (None, "", ":memory:"):
        raise LrfError(f"{url!r} is a database in memory, which ends with its process: give a file")
    return Path(str(parsed.database))


def url_without_password(url: str) -> str:
    """The URL as messages may print it."""
    return make_url(url).render_as_string(hide_password=True)


def first_cause(error: BaseException) -> str:
    """The first line of the error that the database itself raised."""
    while error.__cause__:
        error = error.__cause__
    return (str(error) or type(error).__name__).strip().splitlines()[0]


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn errors of the database into an LrfError: one line with a remedy."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error, OSError) as error:
        cause = first_cause(error)
        remedy = next((f"; {text}" for part, text in REMEDIES.items() if part in cause), "")
        raise LrfError(f"the database {url_without_password(url)} cannot be used: {cause}{remedy}") from error
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None)
        extra = "pip install 'lrf-optuna[postgres]'" if str(missing).startswith("psycopg") else "pip install it"
        raise LrfError(f"the database {url.split('://')[0]} needs the package {missing!r}: {extra}") from None


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna log warnings and errors only, and restore the verbosity of the user's process afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class Database:
    """An open database: Optuna's storage in it, and sessions that read or write. Every failure is an LrfError."""

    def __init__(self, url: str) -> None:
        self.url, self.file = url, sqlite_file(url)
        with plain_errors(url):
            self.storage = connect(url)
            self.file_id = file_id(self.file)

    @contextmanager
    def calling(self) -> Iterator[optuna.storages.RDBStorage]:
        """Optuna's storage for public calls about a study."""
        with plain_errors(self.url):
            self.check_file()
            try:
                yield self.storage
            except KeyError:
                raise LrfError(DELETED) from None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees what is committed."""
        with plain_errors(self.url):
            self.check_file()
            with Session(self.storage.engine) as session:
                yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed at the end, undone by any exception. SQLite admits one writer at a time."""
        with self.reading() as session:
            if self.file:
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session
            session.flush()
            self.check_file()
            session.commit()

    def check_file(self) -> None:
        """Raise LrfError where the file is not the opened one: trials in a deleted file would be lost."""
        now = file_id(self.file)
        if now != self.file_id:
            what = "deleted" if now is None else "replaced by another"
            raise LrfError(
                f"the database file {self.file} was {what} while it was in use: put it back, or leave it; "
                "the same command goes on from the trials in it, or from none"
            )


def file_id(file: Path | None) -> tuple[int, int] | None:
    """Device and inode, which differ between two files of one name; None for no file."""
    try:
        return None if file is None else (file.stat().st_dev, file.stat().st_ino)
    except FileNotFoundError:
        return None


def connect(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`, tried again where other processes create it at the same moment."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return new_storage(url)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.OperationalError) as error:
            if time.monotonic() > end or not any(part in first_cause(error) for part in RACES):
                raise
        time.sleep(random.uniform(0.05, 0.3))


def new_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`. Raises LrfError where another version of Optuna created the tables."""
    path = sqlite_file(url)
    options: dict[str, Any] = {"connect_args": {"timeout": LOCK_SECONDS}} if path else {"pool_pre_ping": True}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
    except RuntimeError as error:
        raise LrfError(f"the database {url_without_password(url)}: {error}") from None
    if path:
        event.listen(storage.engine, "connect", use_normal_sync)
        storage.engine.dispose()
    return storage


def use_normal_sync(connection: Any, _record: Any) -> None:
    """In WAL mode a commit survives the death of the process without a wait for the disk."""
    connection.execute("PRAGMA synchronous=NORMAL")
