"""`promantis backtest` on files: one row out per row in, and what cannot be read is named and costs nothing else."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sidecar.__main__ import main
from sidecar.commands import backtest as command
from sidecar.signals.models import Array
from sidecar.signals.replay.backtest import Recording, run
from tests.unit.waves import DAY, START, wave

HEADER = (
    "timestamp,value,label,split,score,confidence,expected,lower,upper,"
    "forecast_15m,lower_15m,upper_15m,forecast_30m,lower_30m,upper_30m,forecast_60m,lower_60m,upper_60m"
)
Row = list[object]


def write(path: Path, rows: list[Row]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rows_of(recording: Recording, name: str = "value") -> list[Row]:
    values = zip(recording.at, recording.values[:, 0], strict=True)
    return [["timestamp", name], *([int(at), value] for at, value in values)]


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def backtest(out: Path, *files: Path, more: tuple[str, ...] = ()) -> int:
    return main(["backtest", "--csv", *map(str, files), "--out", str(out), *more])


def test_dirty_csv_in_one_row_out_for_each_row_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = wave(3)
    rows: list[Row] = [
        [" Timestamp", "cpu", "a/b", "Label", "pod", "Split", "", "issue", "point_label", "POD"]
    ]
    rows += [
        [int(t), v, v * 2, i % 2, "x,1", "train", i, 1, 0, ""]
        for i, (t, v) in enumerate(zip(one.at, one.values[:, 0], strict=True))
    ]
    rows[10], rows[11] = rows[11], rows[10]  # out of order
    rows.insert(20, rows[20])  # duplicated
    rows[30][0] = ""  # nobody knows when
    rows[35][0] = "noon"
    rows[40][1] = ""  # no value
    rows[50][1] = "NaN"
    rows[55][1] = rows[56][1] = "null"
    rows[60] = rows[60][:4]
    path = write(tmp_path / "vm.CSV.gz", rows)
    assert backtest(tmp_path / "out", path) == 0
    said = capsys.readouterr()
    assert "1 (groups)" in said.out
    assert said.err.splitlines() == [
        f"{path}:31: timestamp: not a time: ''; the line is left out (2 more such)",
        f"{path}:56: cpu: not a number: 'null'; the cell is taken as empty (1 more such)",
        f"{path}: column 'pod' has no numbers and is left out",
    ]
    given = [row for i, row in enumerate(rows) if i not in (0, 30, 35, 60)]
    for name in ("vm.cpu.csv", "vm.a_b.csv", "vm.POD.csv", "vm.group.csv"):
        text = (tmp_path / "out" / name).read_text()
        assert text.partition("\n")[0] == HEADER
        out = read(tmp_path / "out" / name)
        assert [(r["timestamp"], r["label"], r["split"]) for r in out] == [
            (str(row[0]), str(row[3]), "train") for row in given
        ]
        assert bool(out[-1]["score"]) == (name != "vm.POD.csv")
        times = [r["timestamp"] for r in out]
        first = times.index(next(t for t, u in itertools.pairwise(times) if t == u))
        assert out[first] == out[first + 1]
    assert out[-1]["value"] == out[-1]["upper"] == ""
    cpu = read(tmp_path / "out" / "vm.cpu.csv")
    assert [r["value"] for r in cpu] == [str(row[1]) if isinstance(row[1], float) else "" for row in given]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_where_csv_ends_them(end: str, tmp_path: Path) -> None:
    path = tmp_path / "größe.v1.csv"
    path.write_text(
        f"\ufefftimestamp,v,label{end}" + "".join(f"{i},5,a\u2028b{end}" for i in range(9)),
        "utf-8",
        newline="",
    )
    assert backtest(tmp_path / "out", path) == 0
    assert [row["label"] for row in read(tmp_path / "out" / "größe.v1.csv")] == ["a\u2028b"] * 9


def test_order_of_rows_is_kept_and_does_not_matter(tmp_path: Path) -> None:
    rows = rows_of(wave(3))
    mixed = [rows[0], *np.random.default_rng(1).permutation(np.array(rows[1:], object)).tolist()]
    files = [write(tmp_path / f"{name}.csv", some) for name, some in (("a", rows), ("b", mixed))]
    assert backtest(tmp_path / "out", *files) == 0
    a, b = (read(tmp_path / "out" / file.name) for file in files)
    assert [r["timestamp"] for r in b] == [str(row[0]) for row in mixed[1:]]
    assert sorted(b, key=lambda r: r["timestamp"]) == a


def test_times_as_people_write_them(tmp_path: Path) -> None:
    """ISO with and without a zone, in quotes, milliseconds: the same scores."""
    one = wave(2)
    plain = rows_of(one)
    stamps = np.array([row[0] for row in plain[1:]], "datetime64[s]")
    iso: list[Row] = [plain[0], *([f"{s}Z", row[1]] for s, row in zip(stamps, plain[1:], strict=True))]
    space: list[Row] = [[" timestamp", "value"]]
    space += [[str(s).replace("T", " "), row[1]] for s, row in zip(stamps, plain[1:], strict=True)]
    milli: list[Row] = [plain[0], *([int(str(row[0])) * 1000, row[1]] for row in plain[1:])]
    nano: list[Row] = [plain[0], *([int(str(row[0])) * 10**9, row[1]] for row in plain[1:])]
    nano.insert(5, [10**25, 1])  # no time
    files = [
        write(tmp_path / f"{name}.csv", rows)
        for name, rows in (("plain", plain), ("iso", iso), ("space", space), ("milli", milli), ("nano", nano))
    ]
    files[3].write_bytes(b"\xef\xbb\xbf" + files[3].read_bytes())
    assert backtest(tmp_path / "out", *files) == 0
    scores = [[r["score"] for r in read(tmp_path / "out" / file.name)] for file in files]
    assert scores[0] == scores[1] == scores[2] == scores[3] == scores[4]
    assert scores[0][-1]
    assert read(tmp_path / "out" / "iso.csv")[0]["timestamp"] == iso[1][0]


def test_several_series_in_one_file_are_told_apart(tmp_path: Path) -> None:
    one, two = wave(2), wave(2, seed=2)
    rows: list[Row] = [["timestamp", "value", "series"]]
    for a, b in zip(rows_of(one)[1:], rows_of(two)[1:], strict=True):
        rows += [[*a, "a"], [*b, "b"]]
    files = [write(tmp_path / "both.csv", rows), write(tmp_path / "b.csv", rows_of(two))]
    assert backtest(tmp_path / "out", *files) == 0
    both = read(tmp_path / "out" / "both.csv")
    assert len(both) == len(rows) - 1
    alone = [r["score"] for r in read(tmp_path / "out" / "b.csv")]
    assert [r["score"] for r in both if r["series"] == "b"] == alone


def test_a_group_has_a_confidence_that_rises_with_its_score(tmp_path: Path) -> None:
    one, two = wave(6), wave(6, seed=2)
    one.values[500:506] += 60
    two.values[500:506] += 30
    rows: list[Row] = [["timestamp", "a", "b"]]
    rows += [[*a, b[1]] for a, b in zip(rows_of(one)[1:], rows_of(two)[1:], strict=True)]
    assert backtest(tmp_path / "out", write(tmp_path / "x.csv", rows)) == 0
    group = read(tmp_path / "out" / "x.group.csv")
    peak = max(group[100:], key=lambda row: float(row["score"]))
    assert group.index(peak) in range(500, 506)
    most = max(float(row["confidence"]) for row in group[100:])  # a little more is known of later rows
    assert float(peak["confidence"]) == pytest.approx(most, abs=1e-3)
    assert 0.5 < float(peak["confidence"]) < 1
    assert {row["confidence"] for row in group if row["score"][:1] == "-"} == {"0.0"}
    assert [row["confidence"] == "" for row in group] == [row["score"] == "" for row in group]


def test_files_that_do_not_fit_into_memory_together_are_told_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        write(tmp_path / f"{i}.csv", rows_of(wave(3, seed=i, start=START + 400.0 * i))) for i in range(3)
    ]
    assert backtest(tmp_path / "together", *files) == 0
    told, sizes = capsys.readouterr().out.splitlines(), list[int]()
    monkeypatch.setattr(command, "MOST", 7 * DAY)

    def counted(recordings: list[Recording], *more: Any) -> list[dict[str, Array]]:
        sizes.append(len(recordings))
        return run(recordings, *more)

    monkeypatch.setattr(command.backtest, "run", counted)
    assert backtest(tmp_path / "apart", *files) == 0
    assert sizes == [2, 1]
    assert capsys.readouterr().out.splitlines()[:-1] == told[:-1]
    for file in files:
        apart, together = (read(tmp_path / folder / file.name) for folder in ("apart", "together"))
        assert len(apart) == len(together)
        for one, other in zip(apart, together, strict=True):
            for name, cell in one.items():
                if name.endswith("m"):  # forecasts have a regression in common
                    assert bool(cell) == bool(other[name])
                else:
                    assert cell == other[name], name


def test_labels_are_not_read(tmp_path: Path) -> None:
    rows = [[*row, "label" if i == 0 else i % 2] for i, row in enumerate(rows_of(wave(2)))]
    other = [[*row[:2], "label" if i == 0 else ""] for i, row in enumerate(rows)]
    assert backtest(tmp_path / "out", write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", other)) == 0
    a, b = (read(tmp_path / "out" / f"{name}.csv") for name in "ab")
    assert [r["score"] for r in a] == [r["score"] for r in b]
    assert {r["label"] for r in a} == {"0", "1"}


def test_pages_are_told_with_time_value_band_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = wave(4)
    one.values[310:316] += 60
    one.values[340:343] -= 150
    path = write(tmp_path / "x.csv", rows_of(one))
    assert backtest(tmp_path / "out", path, more=("--threshold", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    when = f"{datetime.fromtimestamp(one.at[310], UTC):%Y-%m-%d %H:%M}"
    assert lines[0] == "What would have paged at score 2:"
    assert lines[1].split() == ["series", "from", "(UTC)", "for", "score", "value", "usual", "why"]
    assert lines[2].startswith(f"x       {when}  1h")
    assert " to " in lines[2]
    assert "far below" in lines[3] or "fell at once" in lines[3]
    assert lines[5] == "Pages at other thresholds (--threshold):"
    assert [line.split()[0] for line in lines[7:14]] == ["0.5", "0.75", "1", "1.5", "2", "3", "4"]

    assert backtest(tmp_path / "out", path, more=("--threshold", "2", "--top", "1")) == 0
    assert "and 1 more; 2 pages on 1 of 1 series (--top shows more)" in capsys.readouterr().out
    assert backtest(tmp_path / "out", path, more=("--threshold", "99")) == 0
    assert capsys.readouterr().out.startswith("Nothing would have paged at score 99.\n")
    flags = (
        "--threshold",
        "2",
        "--direction",
        "up",
        "--min-deviation",
        "30",
        "--bounds",
        "0,",
        "--tz",
        "UTC",
    )
    assert backtest(tmp_path / "out", path, more=flags) == 0
    assert when in (said := capsys.readouterr().out)
    assert "fell" not in said


HEAD: Row = ["timestamp", "value"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([HEAD], ":1: has a header and no rows"),
        ([], ":1: needs a header with timestamp and at least one value column; has nothing"),
        (
            [["timestamp", "label", ""], [1, 1, 1]],
            ":1: needs a header with timestamp and at least one value column; has timestamp, label",
        ),
        (
            [["time", "value"], [1, 1]],
            ":1: needs a header with timestamp and at least one value column; has time, value",
        ),
        ([HEAD, ["yesterday", 1]], ":2: timestamp: not a time: 'yesterday'"),
        ([HEAD, ["nan", 1], ["inf", 1]], ":2: timestamp: not a time: 'nan'"),
        ([HEAD, [2]], ":2: has 1 cells, the header has 2"),
        ([HEAD, [2, 3, 4]], ":2: has 3 cells, the header has 2"),
        ([["timestamp", "a", "a"], [1, 1, 1]], ":1: two columns are called 'a'"),
        ([HEAD, [1, "x"], [2, "y"]], "has no column with numbers"),
        ([HEAD, ["", 1]], ":2: timestamp: not a time: ''"),
    ],
)
def test_wrong_files_are_named(
    rows: list[Row], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.csv", rows)
    assert backtest(tmp_path, path) == 2
    assert f"promantis: {path}{words if words[0] == ':' else ': ' + words}\n" == capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, good = tmp_path / "none.csv", write(tmp_path / "x.csv", rows_of(wave(1)))
    assert backtest(tmp_path, missing) == 2
    assert f"{missing}: cannot be read: No such file or directory" in capsys.readouterr().err
    broken = tmp_path / "y.csv.gz"
    broken.write_bytes(b"\x1f\x8bnonsense")
    assert backtest(tmp_path, broken) == 2
    assert f"{broken}: cannot be read: " in capsys.readouterr().err
    assert backtest(good, good) == 2
    assert f"--out {good}: File exists" in capsys.readouterr().err
    assert backtest(tmp_path / "out", good, good) == 2
    assert "--csv: two outputs would be called x.csv: rename a file" in capsys.readouterr().err
    latin = tmp_path / "l.csv"
    latin.write_bytes("timestamp,label,value\n1,a,2\n2,größer,3\n".encode("latin-1"))
    assert backtest(tmp_path / "out", latin) == 2
    assert f"{latin}:3: cannot be read: byte 0xf6 is not UTF-8" in capsys.readouterr().err
    quoted = tmp_path / "q.csv"
    quoted.write_text('timestamp,value\n1,2\n2,"3" 4\n')
    assert backtest(tmp_path / "out", quoted) == 2
    assert f"{quoted}:3: cannot be read: " in capsys.readouterr().err


def test_a_file_that_cannot_be_read_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = write(tmp_path / "x.csv", rows_of(wave(2))), write(tmp_path / "y.csv", [HEAD])
    assert backtest(tmp_path / "out", bad, good, tmp_path / "z.csv") == 2
    said = capsys.readouterr()
    assert [line.partition(": ")[2] for line in said.err.splitlines()] == [
        f"{bad}:1: has a header and no rows",
        f"{tmp_path / 'z.csv'}: cannot be read: No such file or directory",
        "2 of 3 files could not be read, see above",
    ]
    assert len(read(tmp_path / "out" / "x.csv")) == 2 * DAY
    assert "192 rows of 1 series" in said.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--bounds", "1"), "--bounds: '1' is not two numbers such as 0,1 (or 0, without an upper one)"),
        (("--bounds", "2,1"), "--bounds: the first must be below the second"),
        (("--min-deviation", "-1"), "--min-deviation: must be a number of 0 or more"),
        (("--for", "5m"), "--for: needs a --limit"),
        (
            ("--limit", "5", "--for", "soon"),
            "--for: not a valid duration: 'soon' (write 15s, 5m, 1h30m, 30d)",
        ),
        (("--limit", "high"), "--limit: 'high' is not a number such as 0.9, or a condition such as '<5'"),
        (("--limit", "nan"), "--limit: 'nan' is not a number such as 0.9, or a condition such as '<5'"),
        (("--tz", "Berlin"), "--tz: 'Berlin' is not a known time zone (write Europe/Berlin or UTC)"),
    ],
)
def test_wrong_flags_are_named(
    flags: tuple[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backtest(tmp_path, write(tmp_path / "x.csv", rows_of(wave(1))), more=flags) == 2
    assert capsys.readouterr().err == f"promantis: {words}\n"


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (("up ==",), "--query: ", 2),
        (("up", "--step", "soon"), "--step: not a valid duration: 'soon' (write 15s, 5m, 1h30m, 30d)", 2),
        (("up", "--step", "0s"), "--step: must be greater than 0s", 2),
        (("up", "--days", "0"), "--days: must be greater than 0", 2),
        (("up", "--prometheus.url", "http://127.0.0.1:1"), "http://127.0.0.1:1: query up: cannot connect", 1),
    ],
)
def test_wrong_queries_are_named(
    flags: tuple[str, ...], words: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", "--out", str(tmp_path), "--query", *flags]) == code
    assert capsys.readouterr().err.startswith(f"promantis: {words}")


def test_pictures_need_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert backtest(tmp_path, write(tmp_path / "x.csv", rows_of(wave(1))), more=("--plot",)) == 2
    assert capsys.readouterr().err == "promantis: --plot: needs matplotlib: pip install matplotlib\n"


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn, save, axes = list[list[str]](), figure.savefig, list[int]()

    def saved(self: Any, *args: Any, **more: Any) -> None:
        drawn.append([text.get_text() for text in self.axes[0].get_legend().get_texts()])
        axes.append(len(self.axes))
        save(self, *args, **more)

    monkeypatch.setattr(figure, "savefig", saved)
    rows: list[Row] = [["timestamp", "a", "b"], *([*row, row[1]] for row in rows_of(wave(2))[1:])]
    assert backtest(tmp_path / "out", write(tmp_path / "x.csv", rows), more=("--plot",)) == 0
    for name in ("x.a.png", "x.b.png", "x.group.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    of_one = ["expected, with its band", "forecast an hour before, with its interval", "value"]
    assert drawn == [of_one, of_one, ["confidence"]]
    assert axes == [2, 2, 2]
    limited = ("--plot", "--limit", "58")
    assert backtest(tmp_path / "out", write(tmp_path / "x.csv", rows), more=limited) == 0
    assert axes[3:] == [3, 3, 2]  # and the odds


def test_config_file_gives_the_zone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "promantis.yml"
    config.write_text(json.dumps({"tz": "Mars"}))
    path = write(tmp_path / "x.csv", rows_of(wave(1)))
    assert backtest(tmp_path, path, more=("--config.file", str(config))) == 2
    assert "promantis.yml: tz: 'Mars' is not a known time zone" in capsys.readouterr().err
