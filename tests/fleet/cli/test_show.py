# SPDX-License-Identifier: Apache-2.0
"""Does `fleet show` find the host that was meant, and nothing else?"""

from __future__ import annotations

import pytest

from tests.fleet.cli.conftest import Commands, Town


def test_a_host_is_shown_by_its_sections(fleet: Commands) -> None:
    """How far it can be seen comes before what was seen."""
    found = fleet.json("show", "db1")

    assert found["facts"]["host"] == "db1"
    assert {row["section"]: row["status"] for row in found["tables"]["sections"]} == {
        "certificates": "failed",
        "libraries": "complete",
        "processes": "complete",
    }
    assert found["unknown"][0]["reason"] == "it broke"


def test_a_section_is_shown_entry_by_entry(fleet: Commands) -> None:
    """With the whole asset for programs."""
    rows = fleet.json("show", "web2", "--section", "certificates")["tables"]["entries"]

    assert [(row["key"], row["kind"], row["origin"]) for row in rows] == [
        ("/etc/nginx/site.pem", "certificate", "local"),
        ("/srv/old.pem", "certificate", "local"),
    ]
    assert rows[1]["asset"]["key"]["bits"] == 1024
    assert "CN=old.example.com, RSA 1024" in fleet.text("show", "web2", "--section", "certificates")


def test_the_past_is_shown_as_it_was(fleet: Commands) -> None:
    """web2 had one certificate before today."""
    rows = fleet.json("show", "web2", "--section", "certificates", "--at", "2d")["tables"]["entries"]

    assert [row["key"] for row in rows] == ["/etc/nginx/site.pem"]


def test_the_beginning_of_an_identity_is_enough(fleet: Commands, town: Town) -> None:
    """Nobody types 34 characters."""
    host_id = fleet.json("show", "web1")["facts"]["host_id"]

    assert fleet.json("show", host_id[:10])["facts"]["host"] == "web1"


def test_a_name_that_two_hosts_have_is_refused_with_the_list(fleet: Commands, town: Town) -> None:
    """The wrong one of two is worse than none."""
    other = town.enrol(7, "web1")
    town.post(other, "web1", 0.1)

    result = fleet.run("show", "web1")

    assert result.exit_code == 1
    assert "2 hosts are called 'web1'" in result.stderr
    assert other in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("show", "nobody"), 1, "there is no host 'nobody'"),
        (("show", "web1", "--section", "certs"), 1, "it has: certificates, libraries, processes"),
        (("show", "web1", "--at", "yesterday"), 2, "no moment"),
        (("show", "web1", "--at", "0d"), 2, "not a duration"),
        (("show", "web1", "--at", "999999999d"), 2, "before the calendar begins"),
        (("show", "web1", "--format", "xml"), 2, "xml"),
        (("show",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_answered_is_said(
    fleet: Commands, arguments: tuple[str, ...], exit_code: int, says: str
) -> None:
    """What happened, to what, and what to do, on stderr; nothing on stdout."""
    result = fleet.run(*arguments)

    assert result.exit_code == exit_code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_name_cannot_act_on_the_terminal_in_a_refusal_either(fleet: Commands, town: Town) -> None:
    """Answers write names out; an error message that did not would be the way around that."""
    host_id = town.enrol(8, "web8")
    town.post(host_id, "web8\x1b]0;mine\x07\nfleet: all is well", 0.1)

    result = fleet.run("show", host_id, "--section", "none")

    assert result.exit_code == 1
    assert "web8\\x1b]0;mine\\x07\\x0afleet: all is well has no section" in result.stderr
