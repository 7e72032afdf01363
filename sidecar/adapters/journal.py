"""The journal on disk: append-only facts in SQLite, each with the hash of the one before it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from sidecar.remedy.case import Draft, Fact
from sidecar.types import ConfigError, Instant, Rejected, Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)
FACT_VERSION = 1
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (seq INTEGER PRIMARY KEY, fact TEXT NOT NULL, hash TEXT NOT NULL) STRICT;
    CREATE TRIGGER facts_stay BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'facts are append-only'); END;
    CREATE TRIGGER facts_last BEFORE DELETE ON facts BEGIN SELECT RAISE(ABORT, 'facts are append-only'); END;
    """,
)
"""Script i brings the database from schema version i to i + 1; only ever added to."""


_PASSES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""What is wrong with the file or the disk and not with the config: alerts need not wait until somebody mends it."""


class SqliteJournal:
    """One file; all of its work is done in one thread of its own."""

    def __init__(self, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open or make the file. ConfigError names the path when it cannot be used, Unavailable when it is damaged
        or the disk is full."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        with contextlib.ExitStack() as undo:
            undo.callback(self._thread.shutdown)
            self._db = self._thread.submit(_open, path, migrations).result()
            self._seq, self._hash = self._thread.submit(self._last).result()
            undo.pop_all()

    async def append(self, at: Instant, drafts: Sequence[Draft]) -> list[Fact]:
        """Store all or none, on disk on return; Unavailable when they cannot be stored."""
        return await self._run(lambda: self._append(at, drafts))

    async def facts(self, since: int = 0) -> list[Fact]:
        """Facts with a seq above `since`, in order; a broken chain is said in the log and read nevertheless."""
        return await self._run(lambda: self._facts(since))

    async def newest(self, limit: int, before: int = 0) -> list[Fact]:
        """The last facts with a seq below `before` (0: all), the newest first."""
        last = min(before - 1, self._seq) if before else self._seq
        return (await self._run(lambda: self._facts(max(last - limit, 0), last)))[::-1]

    async def lines(self, since: int = 0, kind: str = "") -> tuple[list[bytes], int]:
        """Facts with a seq above `since`, of one kind where it is named, as lines for export, with their hashes;
        and the seq of the last fact that was looked at."""

        def wanted() -> tuple[list[bytes], int]:
            rows = _rows(self._db, since)
            return [exported(*row) for row in rows if not kind or _kind(row[1]) == kind], self._seq

        return await self._run(wanted)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._db.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise Unavailable(f"the journal {self._path} cannot be used: {error}") from None

    def _last(self) -> tuple[int, str]:
        row = self._db.execute("SELECT seq, hash FROM facts ORDER BY seq DESC LIMIT 1").fetchone()
        return row or (0, "")

    def _append(self, at: Instant, drafts: Sequence[Draft]) -> list[Fact]:
        seq, previous, facts, rows = self._seq, self._hash, [], []
        for draft in drafts:
            seq += 1
            fact = Fact(FACT_VERSION, seq, at, draft.kind, draft.case, draft.who, draft.data, previous)
            line = msgspec.json.encode(fact).decode()
            previous = _hash(line)
            facts.append(fact)
            rows.append((seq, line, previous))
        with self._db:
            self._db.executemany("INSERT INTO facts VALUES (?, ?, ?)", rows)
        self._seq, self._hash = seq, previous
        return facts

    def _facts(self, since: int, last: int | None = None) -> list[Fact]:
        facts: list[Fact] = []
        previous: str | None = "" if since == 0 else None
        for seq, line, digest in _rows(self._db, since, last):
            try:
                fact = msgspec.json.decode(line, type=Fact)
            except msgspec.DecodeError as error:
                raise Unavailable(f"the journal {self._path} cannot be read: fact {seq}: {error}") from None
            if digest != _hash(line) or (previous is not None and fact.prev != previous):
                log.error("journal was changed from outside path=%s seq=%d", self._path, seq)
            previous = digest
            facts.append(fact)
        return facts


NOT_OURS = "another replica leads, and has the journal"


class Held:
    """The journal of whoever leads: `take` it, `give` it back; else, or damaged, it is Unavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: SqliteJournal | None = None
        self._why = NOT_OURS
        self.written: Callable[[], None] = lambda: None
        """Called after facts were stored."""

    def take(self) -> None:
        """Open it; it stays Unavailable when it is damaged. ConfigError while another process has it."""
        if self._open is None:
            try:
                self._open = SqliteJournal(self._path)
            except Unavailable as error:
                self._why = str(error)

    async def give(self) -> None:
        """Close it; what is being written is written first."""
        held, self._open, self._why = self._open, None, NOT_OURS
        if held is not None:
            await held.close()

    async def append(self, at: Instant, drafts: Sequence[Draft]) -> list[Fact]:
        """As SqliteJournal."""
        facts = await self._ours().append(at, drafts)
        self.written()
        return facts

    async def facts(self, since: int = 0) -> list[Fact]:
        """As SqliteJournal."""
        return await self._ours().facts(since)

    async def newest(self, limit: int, before: int = 0) -> list[Fact]:
        """As SqliteJournal."""
        return await self._ours().newest(limit, before)

    async def lines(self, since: int = 0, kind: str = "") -> tuple[list[bytes], int]:
        """As SqliteJournal."""
        return await self._ours().lines(since, kind)

    def _ours(self) -> SqliteJournal:
        if self._open is None:
            raise Unavailable(self._why)
        return self._open


class Exported(msgspec.Struct):
    """A line of an export; `fact` is byte for byte what was hashed."""

    hash: str
    fact: msgspec.Raw


class Whole(NamedTuple):
    """A chain that was proved whole."""

    facts: int
    head: str
    """Hash of the last fact: who keeps it elsewhere can see later that nothing was cut off."""


def exported(seq: int, line: str, digest: str) -> bytes:
    """A fact as a line of JSON."""
    return msgspec.json.encode(Exported(digest, msgspec.Raw(line.encode())))


def read(lines: Iterable[bytes]) -> list[Fact]:
    """The facts of exported lines, whose chain is not looked at. Unavailable when they cannot be read."""
    try:
        rows = [msgspec.json.decode(line, type=Exported) for line in lines]
        return [msgspec.json.decode(row.fact, type=Fact) for row in rows]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"a fact cannot be read: {error}") from None


class _Kind(msgspec.Struct):
    kind: str


def _kind(line: str) -> str:
    return msgspec.json.decode(line, type=_Kind).kind


def stored(path: Path) -> list[bytes]:
    """The lines of a journal that no process uses. ConfigError when it cannot be read."""
    if not path.is_file():
        raise ConfigError(str(path), "there is no journal")
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as db:
            return [exported(*row) for row in _rows(db, 0)]
    except sqlite3.Error as error:
        busy = error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        words = "is in use: ask the Promantis that uses it, by --url" if busy else f"cannot be read: {error}"
        raise ConfigError(str(path), words) from None


def verified(lines: Iterable[bytes], head: str | None = None) -> Whole:
    """Prove a chain whole, from its first fact on; Rejected names what is broken first. `head` must be in it."""
    seq, previous, seen = 0, "", head is None
    for line in lines:
        seq += 1
        try:
            row = msgspec.json.decode(line, type=Exported)
            fact = msgspec.json.decode(row.fact, type=Fact)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Rejected(f"fact {seq} cannot be read: {error}") from None
        if fact.seq != seq:
            raise Rejected(f"fact {seq} is missing: fact {fact.seq} stands in its place")
        if fact.prev != previous:
            raise Rejected(f"fact {seq} does not follow from the one before it")
        if row.hash != _hash(bytes(row.fact).decode()):
            raise Rejected(f"fact {seq} was changed")
        previous = row.hash
        seen = seen or previous == head
    if not seen:
        raise Rejected(f"no fact has the hash {head}: something was cut off or written anew")
    return Whole(seq, previous)


def _rows(db: sqlite3.Connection, since: int, last: int | None = None) -> Iterable[tuple[int, str, str]]:
    asked = "SELECT seq, fact, hash FROM facts WHERE seq > ? AND seq <= ? ORDER BY seq"
    return db.execute(asked, (since, sys.maxsize if last is None else last))


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def _open(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path, migrations)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                raise
            aside = _set_aside(path)
            log.error("journal was no database: set aside path=%s as=%s, a new one begins", path, aside)
            return _connect(path, migrations)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from None
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in _PASSES:
            raise Unavailable(f"the journal {path} cannot be used: {error}") from None
        busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        words = "is in use by another Promantis" if busy else f"cannot be used as a journal: {error}"
        raise ConfigError(str(path), words) from None


def _connect(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """One connection, its schema brought forward."""
    db = sqlite3.connect(path, timeout=1)
    with contextlib.ExitStack() as undo:
        undo.callback(db.close)
        db.execute("PRAGMA locking_mode=EXCLUSIVE")  # two that act on one journal would act twice
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise ConfigError(str(path), f"was written by a newer Promantis (schema {version})")
        for number, script in enumerate(migrations[version:], version + 1):
            db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")
        db.execute("BEGIN IMMEDIATE").connection.rollback()  # a read-only file is found now, not at a fact
        undo.pop_all()
    return db


def _set_aside(path: Path) -> Path:
    """Rename to the first free `.damaged-n`, with what belongs to it; nothing is ever overwritten."""
    n = 1
    while (aside := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    for end in ("-wal", "-shm"):
        part = path.with_name(path.name + end)
        if part.exists():
            part.rename(aside.with_name(aside.name + end))
    return path.rename(aside)
