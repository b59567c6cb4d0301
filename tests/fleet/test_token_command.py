# SPDX-License-Identifier: Apache-2.0
"""Does `fleet token` give out what enrols, and nothing else?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.cli import cli
from fleet.collector import server
from fleet.config import DataDir, Settings
from fleet.enroll import token_digest
from fleet.store import open_store


@pytest.fixture
def initialised(data: DataDir) -> DataDir:
    """A data directory as `fleet serve --init` leaves it."""
    server.initialise(Settings(data=data))
    return data


def fleet(data: DataDir, *arguments: str) -> Result:
    """A `fleet` command on that directory."""
    return CliRunner().invoke(cli, [*arguments, "--data", str(data.root)])


def test_a_token_is_printed_once_and_kept_as_a_hash(initialised: DataDir) -> None:
    """stdout is the token and nothing else, so that a script can take it."""
    found = fleet(initialised, "token", "create", "--uses", "3", "--ttl", "2d", "--group", "web")
    assert found.exit_code == 0
    assert re.fullmatch(r"cft_[A-Za-z0-9_-]{43}\n", found.stdout)
    token = found.stdout.strip()
    for path in initialised.root.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes(), path
    assert token_digest(token).encode() in (initialised.database.read_bytes() + _wal(initialised))


def _wal(data: DataDir) -> bytes:
    path = data.database.with_name("fleet.db-wal")
    return path.read_bytes() if path.exists() else b""


def test_tokens_are_listed_with_what_is_left_of_them(initialised: DataDir) -> None:
    """Which are valid, for whom, and who made them."""
    fleet(initialised, "token", "create")
    fleet(initialised, "token", "create", "--group", "db")
    assert fleet(initialised, "token", "revoke", "1").exit_code == 0
    found = json.loads(fleet(initialised, "token", "list", "--json").stdout)
    assert [(token["id"], token["state"], token["uses"], token["group"]) for token in found] == [
        (1, "revoked", "0/1", None),
        (2, "valid", "0/1", "db"),
    ]
    assert all(token["by"].startswith("operator:") for token in found)
    assert "revoked" in fleet(initialised, "token", "list").stdout
    store = open_store(initialised.database)
    assert [record.action for record in store.audit()] == ["token-created", "token-created", "token-revoked"]
    store.close()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["token", "create", "--uses", "0"], 2, "uses"),
        (["token", "create", "--ttl", "soon"], 2, "90s, 15m, 24h or 7d"),
        (["token", "create", "--ttl", "0h"], 2, "90s, 15m, 24h or 7d"),
        (["token", "create", "--ttl", "9999999d"], 2, "calendar"),
        (["token", "create", "--ttl", "999999999d"], 2, "calendar"),
        (["token", "revoke", "99999999999999999999"], 2, "range"),
        (["token", "revoke", "9"], 1, "there is no token 9"),
        (["token"], 2, "create"),
    ],
)
def test_what_cannot_be_done_is_told(
    initialised: DataDir, arguments: list[str], exit_code: int, says: str
) -> None:
    """With an exit code that a script can tell apart."""
    found = CliRunner().invoke(
        cli, arguments if arguments == ["token"] else [*arguments, "--data", str(initialised.root)]
    )
    assert found.exit_code == exit_code
    assert says in found.output


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    """And not made by mistake."""
    found = fleet(DataDir(tmp_path / "none"), "token", "create")
    assert found.exit_code == 1
    assert "fleet serve --init" in found.stderr
    assert not (tmp_path / "none").exists()


def test_every_command_helps() -> None:
    """Commands are found by folder; each has help with its exit codes."""
    for name in cli.list_commands(None):  # type: ignore[arg-type]  # it asks no context
        found = CliRunner().invoke(cli, [name, "--help"])
        assert found.exit_code == 0, found.output
