"""Makes the tokens of the compose file once: `make_tokens.py FOLDER`. One for people, one each for the two peers."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

ROLES = {"admin": "admin", "prometheus": "feedback", "alertmanager": "feedback"}
"""Prometheus reads and sends alerts, Alertmanager sends webhooks: both may no more than that."""


def main(folder: Path) -> None:
    """Write `tokens.yml` for Promantis and `<name>.token` for each peer, unless they are there; print the admin's."""
    file = folder / "tokens.yml"
    if not file.exists():
        lines = []
        for name, role in ROLES.items():
            token = secrets.token_urlsafe(24)
            (folder / f"{name}.token").write_text(token, encoding="utf-8")
            lines.append({"name": name, "token": token, "role": role})
        file.write_text(json.dumps(lines), encoding="utf-8")  # JSON is YAML
    print("token of the admin:", (folder / "admin.token").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
