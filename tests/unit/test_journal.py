"""Facts survive, in order, chained; what is wrong with the file is said."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sidecar import __main__ as command_line
from sidecar.adapters.journal import MIGRATIONS, SqliteJournal, read, stored, verified
from sidecar.remedy.case import Draft
from sidecar.types import ConfigError, Instant, Rejected, Unavailable

NOW = Instant(1000.5)
DRAFTS = [
    Draft("episode.started", None, "system", {"a": 1}),
    Draft("case.denied", "c", "ada", {"words": "é"}),
]


async def test_facts_are_chained_and_come_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "new" / "journal.db")
    first = await journal.append(NOW, DRAFTS)
    await journal.append(NOW, [])
    await journal.close()
    journal = SqliteJournal(tmp_path / "new" / "journal.db")
    second = await journal.append(NOW, DRAFTS[:1])
    facts = await journal.facts()
    assert facts == first + second
    assert [(f.v, f.seq, f.at) for f in facts] == [(1, n, 1000.5) for n in (1, 2, 3)]
    assert facts[0].prev == ""
    assert len({f.prev for f in facts}) == 3
    assert await journal.facts(since=2) == second
    await journal.close()


async def test_the_newest_come_page_by_page(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    assert await journal.newest(2) == []
    for _ in range(3):
        await journal.append(NOW, DRAFTS)
    assert [f.seq for f in await journal.newest(4)] == [6, 5, 4, 3]
    assert [f.seq for f in await journal.newest(4, before=3)] == [2, 1]
    assert await journal.newest(4, before=1) == []
    assert [f.seq for f in await journal.newest(2, before=100)] == [6, 5]
    await journal.close()


async def test_facts_are_append_only_and_a_change_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    await journal.append(NOW, DRAFTS)
    await journal.close()
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="facts are append-only"):
        db.execute("DELETE FROM facts")
    db.executescript(
        "DROP TRIGGER facts_stay; UPDATE facts SET fact = replace(fact, 'ada', 'bob') WHERE seq = 2;"
    )
    db.close()
    journal = SqliteJournal(path)
    assert [f.who for f in await journal.facts()] == ["system", "bob"]
    assert caplog.messages == [f"journal was changed from outside path={path} seq=2"]
    await journal.close()


async def test_what_is_no_database_is_set_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    path.write_text("this is no database at all, whatever its name says" * 50)
    (tmp_path / "journal.db.damaged-1").write_text("older")
    journal = SqliteJournal(path)
    assert await journal.facts() == []
    await journal.close()
    aside = tmp_path / "journal.db.damaged-2"
    assert aside.read_text().startswith("this is no database")
    words = f"journal was no database: set aside path={path} as={aside}, a new one begins"
    assert caplog.messages == [words]


async def test_a_fact_that_cannot_be_read_is_not_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await SqliteJournal(path).close()
    db = sqlite3.connect(path)
    db.execute("INSERT INTO facts VALUES (1, '{', '')")
    db.commit()
    db.close()
    journal = SqliteJournal(path)
    with pytest.raises(Unavailable, match=r"journal.db cannot be read: fact 1: Input data was truncated"):
        await journal.facts()
    await journal.close()


async def test_two_cannot_share_a_journal(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    await journal.append(NOW, DRAFTS)
    with pytest.raises(ConfigError) as caught:
        SqliteJournal(tmp_path / "journal.db")
    assert str(caught.value) == f"{tmp_path}/journal.db: is in use by another Promantis"
    await journal.close()


async def test_migrations_go_forward_and_never_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    facts = await journal.append(NOW, DRAFTS)
    await journal.close()
    newer = SqliteJournal(path, [*MIGRATIONS, "CREATE INDEX by_hash ON facts (hash);"])
    assert await newer.facts() == facts
    await newer.close()
    with pytest.raises(ConfigError) as caught:
        SqliteJournal(path)
    assert str(caught.value) == f"{path}: was written by a newer Promantis (schema 2)"


def test_an_unusable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        SqliteJournal(tmp_path / "file" / "journal.db")
    assert str(caught.value) == f"{tmp_path}/file/journal.db: cannot be written: File exists"
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(ConfigError) as caught:
        SqliteJournal(tmp_path / "journal.db")
    words = "cannot be used as a journal: unable to open database file"
    assert str(caught.value) == f"{tmp_path}/journal.db: {words}"


async def test_an_export_is_proved_whole_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    for _ in range(3):
        await journal.append(NOW, DRAFTS)
    lines, last = await journal.lines()
    assert await journal.lines(since=4) == (lines[4:], last)
    kinds = [fact.kind for fact in await journal.facts()]
    of_one, looked = await journal.lines(0, kinds[0])
    assert looked == last == len(kinds), "whatever was asked for"
    assert [fact.kind for fact in read(of_one)] == [kind for kind in kinds if kind == kinds[0]] != kinds
    with pytest.raises(Unavailable, match="a fact cannot be read"):
        read([*of_one, b"{}"])
    with pytest.raises(ConfigError, match="is in use: ask the Promantis that uses it, by --url"):
        stored(tmp_path / "journal.db")
    await journal.close()
    assert stored(tmp_path / "journal.db") == lines
    whole = verified(lines)
    assert whole.facts == 6
    assert verified(lines, whole.head) == whole
    for broken, words in [
        ([*lines[:2], *lines[3:]], "fact 3 is missing: fact 4 stands in its place"),
        ([*lines[:1], lines[1].replace(b"ada", b"bob"), *lines[2:]], "fact 2 was changed"),
        (
            [*lines[:5], lines[5].replace(b'"prev":"', b'"prev":"0')],
            "fact 6 does not follow from the one before it",
        ),
        ([lines[0], b"{"], "fact 2 cannot be read: Input data was truncated"),
    ]:
        with pytest.raises(Rejected) as caught:
            verified(broken)
        assert str(caught.value) == words
    with pytest.raises(Rejected, match="something was cut off or written anew"):
        verified(lines[:5], whole.head)

    flags = ["--storage.path", str(tmp_path)]
    assert command_line.main(["journal", "verify", *flags]) == 0
    out = capsys.readouterr().out
    assert out == f"6 facts, none changed, none missing; the last is {whole.head}\n"
    assert command_line.main(["journal", "export", *flags]) == 0
    assert capsys.readouterr().out.encode() == b"".join(line + b"\n" for line in lines)
    (tmp_path / "export").write_bytes(b"\n".join(lines[1:]))
    assert command_line.main(["journal", "verify", "--file", str(tmp_path / "export")]) == 1
    assert capsys.readouterr().err == "promantis: fact 1 is missing: fact 2 stands in its place\n"
