# SPDX-License-Identifier: Apache-2.0
"""Does `fleet hosts` list every host, and what is not known of it?"""

from __future__ import annotations

from fleet.config import DataDir
from tests.fleet.cli.conftest import Commands, Town


def test_every_host_is_listed_with_what_is_not_known(fleet: Commands) -> None:
    """The first question of the morning."""
    found = fleet.json("hosts")

    assert found["schema"] == "cryptofleet.hosts/1"
    assert [(row["host"], row["group"], row["unknown"]) for row in found["tables"]["hosts"]] == [
        ("db1", None, ["certificates"]),
        ("web1", "web", []),
        ("web2", "web", []),
    ]
    assert [(row["host"], row["status"], row["reason"]) for row in found["unknown"]] == [
        ("db1", "failed", "it broke")
    ]


def test_a_group_is_a_part_of_the_fleet(fleet: Commands) -> None:
    """Teams look at their own."""
    assert [row["host"] for row in fleet.json("hosts", "--group", "web")["tables"]["hosts"]] == [
        "web1",
        "web2",
    ]


def test_the_past_has_the_hosts_of_the_past(fleet: Commands, town: Town) -> None:
    """db1 had posted nothing yet, and was silent."""
    found = fleet.json("hosts", "--at", "2d")

    assert {row["host"]: row["status"] for row in found["unknown"] if row["section"] is None} == {
        "db1": "stale",
        "web1": "stale",
        "web2": "stale",
    }


def test_silence_has_a_limit_that_can_be_chosen(fleet: Commands, town: Town) -> None:
    """An hour, a day, a month: it depends on the fleet."""
    town.post(town.enrol(9, "old1"), "old1", 12)

    silent = {row["host"] for row in fleet.json("hosts")["unknown"] if row["status"] == "stale"}
    assert silent == {"old1"}
    patient = fleet.json("hosts", "--stale-after-days", "20")
    assert not [row for row in patient["unknown"] if row["status"] == "stale"]


def test_a_fleet_without_hosts_says_so(data: DataDir) -> None:
    """The first command after the installation."""
    assert "No host is known here." in Commands(data).text("hosts")


def test_a_directory_that_is_no_collectors_is_refused_with_what_to_do(data: DataDir) -> None:
    """A typo in --data must not look like an empty fleet."""
    elsewhere = Commands(DataDir(data.root / "nowhere"))

    result = elsewhere.run("hosts")

    assert result.exit_code == 1
    assert "fleet serve --init" in result.stderr
