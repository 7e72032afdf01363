"""`promantis feedback`: wrong use is named, times are read, and what was said is a table."""

from __future__ import annotations

import pytest

from sidecar.__main__ import main
from sidecar.commands.feedback import _table, _time


@pytest.mark.parametrize("about", [[], ["--match", "{}", "--fingerprint", "1f"]])
def test_a_verdict_is_about_one_thing(about: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["feedback", "real", *about]) == 2
    assert capsys.readouterr().err == "promantis: --match: name either --match or --fingerprint\n"


def test_what_is_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["feedback", "real", "--match", "{}", "--start", "yesterday"])
    assert ended.value.code == 2
    assert "argument --start: 'yesterday' is not a time" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["1764000000", "2025-11-24T16:00:00Z", "2025-11-24T17:00:00+01:00", "2025-11-24 16:00"]
)
def test_times(text: str) -> None:
    assert _time(text) == 1_764_000_000


def test_what_was_said_as_a_table() -> None:
    assert _table([]) == ["nothing was said yet"]
    one = {"at": 1_764_000_000.0, "who": "fay", "match": "", "fingerprint": "1f", "comment": "drill\x1b[2J"}
    said = [
        one | {"verdict": "not_real", "runs": [{}]},
        one | {"verdict": "real", "runs": []},
        one | {"verdict": "planned", "runs": [], "start": 1_764_000_000.0, "end": 1_764_003_600.0},
    ]
    at, end = "2025-11-24 16:00:00Z", "2025-11-24 17:00:00Z"
    assert [" ".join(line.split()) for line in _table(said)[1:]] == [
        f"{at} fay not_real 1 run 1f drill?[2J",
        f"{at} fay real no run over the threshold then; kept 1f drill?[2J",
        f"{at} fay planned {at} to {end} 1f drill?[2J",
    ]
