# SPDX-License-Identifier: Apache-2.0
"""Is a host that cannot be what its Spec says refused before anything is made?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.errors import LabError
from tests.lab.lab import Lab
from tests.lab.spec import File, Job, Plan, Spec


@pytest.mark.parametrize("name", ["", "a b", "../up", "hub", "controller", "x" * 60])
def test_a_name_that_makes_no_directory_is_refused(name: str) -> None:
    """Names become paths of directories that are removed with all they hold."""
    with pytest.raises(LabError, match="cannot name a host"):
        Lab([name])


@pytest.mark.parametrize("path", ["relative", "/run/x", "/proc/x"])
def test_a_file_that_no_host_would_see_is_refused(path: str) -> None:
    """The test that planted it would pass without it."""
    with pytest.raises(LabError, match=f"h1: the file '{path}' needs an absolute path outside"):
        Spec("h1", files={path: ""})


@pytest.mark.parametrize(
    "field", [{"units": {"a.service": ""}}, {"start": ("a.service",)}], ids=["units", "start"]
)
def test_units_without_systemd_are_refused(field: dict[str, Any]) -> None:
    """A unit that nobody starts would make a test pass for the wrong reason."""
    with pytest.raises(LabError, match="need init"):
        Lab([Spec("h1", **field)])


@pytest.mark.parametrize("name", ["a", "../a.service", "a/b.service", "/a.service", ".service\n"])
def test_a_name_that_makes_no_unit_is_refused(name: str) -> None:
    """It becomes the name of a file in the host."""
    with pytest.raises(LabError, match=r"h1: .* cannot name a unit"):
        Spec("h1", units={name: ""})


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        (0, "1 to 240 hosts, not 0"),
        (241, "1 to 240 hosts, not 241"),
        (["a", "b", "a"], "two hosts have one name"),
    ],
    ids=["none", "too many", "twice"],
)
def test_hosts_that_make_no_lab_are_refused(hosts: int | list[str], complaint: str) -> None:
    """Addresses and directories follow from the hosts' numbers and names."""
    with pytest.raises(LabError, match=complaint):
        Lab(hosts)


def test_a_job_arrives_as_it_was_sent() -> None:
    """Two processes share it as text, whatever bytes a file holds."""
    # Given a job with every kind of file
    spec = Spec(
        "h1", files={"/a": "text", "/b": b"\x00\xff", "/c": File("x", 0o600)}, units={"u.service": "[Unit]"}
    )
    job = Job("/d", "/c", "sh", "/", "1m", 1.5, {"h1": "10.213.0.11"}, (Plan.of(spec, 0, "/g", "0" * 32),))

    # When it is sent and received
    received = Job.from_json(job.to_json())

    # Then it is the same, and its files are still bytes and modes
    assert received == job
    assert received.hosts[0].files["/b"] == ("AP8=", 0o644)
