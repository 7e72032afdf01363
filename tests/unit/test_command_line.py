"""The command line as a whole: examples that hold, and scripts that complete it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.__main__ import COMMANDS, EXAMPLES, EXITS, _parser, main

FULL = _parser(*COMMANDS)


@pytest.mark.parametrize(
    "example", [f"{name} {arguments}" for name, several in EXAMPLES.items() for arguments in several]
)
def test_an_example_of_the_help_is_taken(example: str) -> None:
    words = shlex.split(example.partition(" > ")[0])
    assert FULL.parse_args(words).command == words[0]


def test_every_command_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    with pytest.raises(SystemExit):
        main(["kill", "--help"])
    assert "examples:\n  promantis kill on --reason 'we work by hand'\n" in capsys.readouterr().out


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for words in (*COMMANDS, "Exit codes:", *(f"  {code}  {meaning}" for code, meaning in EXITS.items())):
        assert words in said.err


@pytest.mark.parametrize("words", ["frobnicate", "kill maybe", "journal", "run --nothing"])
def test_wrong_use_says_where_help_is(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(words.split())
    assert wrong.value.code == 2
    assert re.search(r"^`promantis( \w+)? --help` says more, with examples\.$", capsys.readouterr().err, re.M)


def test_an_unknown_flag_is_named_by_its_command_with_what_is_near(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--promethus.url=http://localhost:9090"])
    assert ended.value.code == 2
    said = "promantis run: unknown: --promethus.url=http://localhost:9090 (did you mean --prometheus.url?)\n"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_words(command: str) -> None:
    (commands,) = (a for a in FULL._actions if isinstance(a, argparse._SubParsersAction))
    assert not [action.dest for action in commands.choices[command]._actions if not action.help]


def test_other_commands_are_not_imported() -> None:
    code = "import sys; from sidecar.__main__ import main; main(['completion', 'bash'][:1] + ['--help'])"
    code = f"try:\n {code}\nexcept SystemExit:\n print([m for m in sys.modules if m.startswith('sidecar.commands.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['sidecar.commands.completion']"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_commands_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("backtest", "feedback", "prometheus.url", "token-file"):
        assert word in script


def complete(script: Path, line: str) -> set[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    code = f"""
    source {script}
    COMP_WORDS=({shlex.join(words[:-1])} "{words[-1]}"); COMP_CWORD={len(words) - 1}; COMP_LINE={shlex.quote(line)}
    COMP_POINT={len(line)}
    $(complete -p promantis | sed 's/.*-F \\([^ ]*\\).*/\\1/') promantis "{words[-1]}" "{words[-2]}"
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return {word.strip() for word in done.stdout.splitlines()}


def test_who_reads_no_further_has_enough() -> None:
    command = [sys.executable, "-m", "sidecar", "completion", "bash"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()  # as `| head` does, long before anything is written
        assert running.stderr.read() == b""
    assert running.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = tmp_path / "promantis.bash"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    assert complete(script, "promantis ch") == {"check"}
    assert complete(script, "promantis kill o") == {"on", "off"}
    assert complete(script, "promantis run --prom") == {"--prometheus.url"}
    (tmp_path / "mine.yml").touch()
    assert complete(script, f"promantis run --config.file {tmp_path}/mi") == {f"{tmp_path}/mine.yml"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("explain", "match: name either a match or --fingerprint"),
        ("explain {} --fingerprint 6bf75205248afea2", "match: name either a match or --fingerprint"),
    ],
)
def test_wrong_use_is_refused(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err == f"promantis: {words}\n"


def test_products_of_matrices_keep_to_one_core_unless_told_otherwise() -> None:
    code = (
        "import os, sidecar.__main__, numpy; numpy.ones((500, 500)) @ numpy.ones((500, 500));"
        "print(len(os.listdir('/proc/self/task')))"
    )
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    threads = [
        int(subprocess.check_output([sys.executable, "-c", code], env=env | more))
        for more in ({}, {"OPENBLAS_NUM_THREADS": "2"})
    ]
    assert threads == [1, min(2, os.cpu_count() or 1)]
