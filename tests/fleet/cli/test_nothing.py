# SPDX-License-Identifier: Apache-2.0
"""A question about nothing is not answered as if all were well."""

from __future__ import annotations

import pytest

from tests.fleet.cli.conftest import Commands


@pytest.mark.parametrize(
    "words", [("hosts",), ("report", "inventory"), ("report", "compliance", "--exit-code")]
)
def test_a_group_without_hosts_is_a_slip_of_the_pen(fleet: Commands, words: tuple[str, ...]) -> None:
    """A pipeline that asks about `wbe` must not be green."""
    done = fleet.run(*words, "--group", "wbe")

    assert done.exit_code == 1
    assert "no host is in a group 'wbe'; there are: " in done.stderr


def test_a_time_before_the_first_host_passes_nothing(fleet: Commands) -> None:
    """Nobody was there to fail, and nobody to pass."""
    assert fleet.run("report", "compliance", "--as-of", "1999-01-01", "--exit-code").exit_code == 3


@pytest.mark.parametrize(
    "words",
    [
        ("hosts", "--at", "2999-01-01"),
        ("show", "web1", "--at", "2999-01-01"),
        ("diff", "web1", "--since", "2999-01-01"),
        ("diff", "web1", "--since", "2d", "--until", "2999-01-01"),
    ],
)
def test_the_future_has_not_been_seen(fleet: Commands, words: tuple[str, ...]) -> None:
    """Comparing now with now and calling it equal would be an answer to another question."""
    done = fleet.run(*words)

    assert done.exit_code == 2
    assert "lies in the future" in done.stderr
