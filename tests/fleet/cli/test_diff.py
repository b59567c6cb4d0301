# SPDX-License-Identifier: Apache-2.0
"""Does `fleet diff` answer "what is different on web2?" and "what changed there?"."""

from __future__ import annotations

import pytest

from tests.fleet.cli.conftest import Commands


def test_two_hosts(fleet: Commands) -> None:
    """What they share is not mentioned."""
    found = fleet.json("diff", "web1", "web2")

    assert [(row["change"], row["key"]) for row in found["tables"]["drift"]] == [("added", "/srv/old.pem")]
    assert found["tables"]["usage"] == []
    assert found["facts"]["equal"] == "no"


def test_one_host_since_a_moment(fleet: Commands) -> None:
    """A renewed certificate is one change of three fields."""
    (row,) = fleet.json("diff", "web1", "--since", "5d")["tables"]["drift"]

    assert row["change"] == "changed"
    assert [field["field"] for field in row["fields"]] == ["asset.not_after", "asset.sha256"]
    assert row["before"]["asset"]["not_after"] < row["after"]["asset"]["not_after"]


def test_one_host_between_two_moments(fleet: Commands) -> None:
    """What came after --until is not in it."""
    found = fleet.json("diff", "web1", "--since", "5d", "--until", "3d")

    assert found["facts"]["equal"] == "yes"
    assert found["facts"]["after"].startswith("web1 as of ")


def test_a_section_that_failed_has_not_lost_its_entries(fleet: Commands) -> None:
    """It could not be looked at, and that is what is said."""
    found = fleet.json("diff", "web1", "db1")

    assert found["tables"]["drift"] == []
    assert found["tables"]["coverage"] == [
        {"section": "certificates", "before": "complete", "after": "failed: it broke", "compared": False}
    ]
    assert found["facts"]["equal"] == "unknown"


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("web1", "web2"), 0),
        (("web1", "web2", "--exit-code"), 3),
        (("web1", "db1", "--exit-code"), 3),
        (("web1", "web1", "--exit-code"), 0),
        (("web1", "--since", "5d", "--until", "3d", "--exit-code"), 0),
        (("web1", "nobody", "--exit-code"), 1),
        (("web1", "--since", "300d"), 1),
        (("web1",), 2),
        (("web1", "web2", "--since", "2d"), 2),
        (("web1", "web2", "--until", "2d"), 2),
        (("web1", "--since", "2d", "--until", "3d"), 2),
    ],
)
def test_exit_codes(fleet: Commands, arguments: tuple[str, ...], exit_code: int) -> None:
    """A difference is no failure, and only who asks is told by the exit code."""
    assert fleet.run("diff", *arguments).exit_code == exit_code


def test_a_moment_before_the_host_is_said_to_be_one(fleet: Commands) -> None:
    """Not that the host is unknown: it is asked about by its right name."""
    said = fleet.run("diff", "web1", "--since", "300d").stderr

    assert "web1 had not enrolled yet" in said
