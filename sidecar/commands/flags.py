"""Flags that several commands share, in Prometheus' style; a flag overrides the file."""

from __future__ import annotations

import argparse
import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from sidecar.adapters.alertmanager import AlertmanagerConfig
from sidecar.config import Config, check, check_whole, load
from sidecar.types import ConfigError

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("logfmt", "json")

FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--config.file", {"metavar": "FILE", "help": "config file; without one all has its default"}),
    ("--prometheus.url", {"metavar": "URL", "help": "Prometheus (default http://localhost:9090)"}),
    (
        "--alertmanager.url",
        {"metavar": "URL", "action": "append", "help": "Alertmanager; repeat the flag for several"},
    ),
    ("--web.listen-address", {"metavar": "HOST:PORT", "help": "where to listen (default 127.0.0.1:9909)"}),
    (
        "--storage.path",
        {"metavar": "FOLDER", "help": "folder of state, journal and admin.token (default data)"},
    ),
    (
        "--log.level",
        {"choices": LEVELS, "default": "info", "help": "least severity that is logged (default info)"},
    ),
    (
        "--log.format",
        {"choices": FORMATS, "default": "logfmt", "help": "how lines are written (default logfmt)"},
    ),
)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of FLAGS; `config_from` reads them."""
    for flag, options in FLAGS:
        parser.add_argument(flag, dest=flag.removeprefix("--"), **options)


def config_from(args: argparse.Namespace) -> Config:
    """The file's config (or the defaults) with the flags over it; ConfigError names the file or the flag."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    file = given.get("config.file")
    config = load(file) if file is not None else Config()
    for flag, section, key in (
        ("prometheus.url", "prometheus", "url"),
        ("web.listen-address", "web", "listen"),
        ("storage.path", "storage", "path"),
    ):
        if flag in given:
            part = msgspec.structs.replace(getattr(config, section), **{key: given[flag]})
            config = _checked(config, flag, section, part)
    if urls := given.get("alertmanager.url"):
        peers = tuple(AlertmanagerConfig(url=url) for url in urls)
        config = _checked(config, "alertmanager.url", "alertmanagers", peers)
    if file is not None:
        check_whole(config, Path(file).name)
    return config


def _checked(config: Config, flag: str, section: str, value: Any) -> Config:
    """The config with the flag in it; the file was right before, so what is wrong now is the flag."""
    config = msgspec.structs.replace(config, **{section: value})
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"--{flag}", error.words) from None
    return config


def start_logging(args: argparse.Namespace) -> None:
    """Log to stderr as the flags say: one line a record, `ts= level= logger= msg=` or the same as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(vars(args)["log.format"] == "json"))
    logging.basicConfig(level=_LEVELS[vars(args)["log.level"]], handlers=[handler], force=True)


_LEVELS = dict(zip(LEVELS, (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR), strict=True))
_PLAIN = re.compile(r'[^\s"=]+')


class _Lines(logging.Formatter):
    """A record as one line of logfmt or JSON; a traceback goes into it, escaped."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = next((name for name, value in _LEVELS.items() if value >= record.levelno), "error")
        fields = {
            "ts": at.replace("+00:00", "Z"),
            "level": level,
            "logger": record.name.removeprefix("sidecar."),
            "msg": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, ensure_ascii=False)
        return " ".join(
            f"{key}={value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)}"
            for key, value in fields.items()
        )
