# SPDX-License-Identifier: Apache-2.0
"""The conductor and the document it leads to."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from agent import document, errors, redact, run
from agent.host import Host
from agent.model import canonical, limits
from agent.model.asset import FipsMode
from agent.model.inventory import Entry, decode_manifest, decode_part, decode_sealed
from agent.model.location import Location, Package
from agent.scanners import Scan, Spec


def scanner(name: str, result: Scan | Exception) -> ModuleType:
    """A scanner that finds what it is told to."""
    module = ModuleType(name)

    def scan(_host: Host) -> Scan:
        if isinstance(result, Exception):
            raise result
        return result

    module.SPEC = Spec(detector=3, reads=())  # type: ignore[attr-defined]
    module.scan = scan  # type: ignore[attr-defined]
    return module


def entry(key: str, package: str | None = None) -> Entry:
    """An entry that a package owns, or none."""
    owner = Package(manager="dpkg", name=package) if package else None
    return Entry(
        key=key, asset=FipsMode(enabled=False, supported=True), where=Location(path=key, package=owner)
    )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with hardly anything on it."""
    for path, content in {
        "etc/os-release": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/passwd": "alice:x:1000:1000::/home/alice:/bin/sh\n",
        "proc/sys/kernel/hostname": "web1\n",
        "proc/sys/kernel/osrelease": "6.1.0\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return Host(str(tmp_path))


def test_a_scanner_that_fails_is_a_failed_section_and_harms_no_other(host: Host) -> None:
    """Each outcome is in the manifest with its reason; the others are whole."""
    outcomes = run.run_scanners(
        host,
        {
            "fine": scanner("fine", Scan(entries=[entry("/a")])),
            "refused": scanner("refused", errors.ToolError("/usr/bin/rpm exited 1")),
            "buggy": scanner("buggy", ZeroDivisionError("-----BEGIN PRIVATE KEY-----")),
        },
    )
    sections = document.compose(host, outcomes, redact.Truth()).sections

    assert sections["fine"].status == "complete"
    assert sections["refused"].status == "failed"
    assert sections["refused"].reason == "/usr/bin/rpm exited 1"
    assert sections["buggy"].status == "failed"
    assert sections["buggy"].reason is not None
    assert sections["buggy"].reason.startswith("bug in scanner: ZeroDivisionError at test_run.py:")
    assert "PRIVATE" not in repr(sections)


def test_an_unknown_scanner_is_a_usage_error_that_lists_those_there_are() -> None:
    """Nobody should have to look up a name."""
    with pytest.raises(errors.UsageError, match=r"no scanner 'certs'; there are: .*certificates"):
        run.choose(["certs"])


def test_what_a_package_owns_is_one_part_and_the_rest_another(host: Host) -> None:
    """One unique certificate must not make 150 shared ones unique."""
    shared = [entry(f"/usr/share/{n}", "ca-certificates") for n in range(3)]
    one = document.compose(host, outcomes_of(Scan(entries=[*shared, entry("/etc/one.pem")])), redact.Truth())
    other = document.compose(
        host, outcomes_of(Scan(entries=[*shared, entry("/etc/other.pem")])), redact.Truth()
    )

    parts, other_parts = one.sections["x"].parts, other.sections["x"].parts

    assert parts.vendor == other_parts.vendor
    assert parts.local != other_parts.local
    assert [e.key for e in decode_part(one.parts[parts.local or ""])] == ["/etc/one.pem"]


def outcomes_of(scan: Scan) -> dict[str, document.Outcome]:
    """The outcome of one scanner called x."""
    return {"x": document.Outcome(spec=Spec(detector=1, reads=()), scan=scan)}


def test_what_vanished_is_told_but_changes_nothing(host: Host) -> None:
    """A process that ends while we look says nothing of the host; two scans must still agree."""
    quiet, busy = Scan(entries=[entry("/a")]), Scan(entries=[entry("/a")])
    busy.skip("vanished", "/proc/12")

    one, other = (document.compose(host, outcomes_of(scan), redact.Truth()) for scan in (quiet, busy))

    assert one.sections == other.sections
    assert other.live == {"x": {"vanished": 1}}


@pytest.mark.parametrize(
    ("reason", "status"),
    [("denied", "partial"), ("unreadable", "partial"), ("too_large", "partial"), ("budget", "partial"),
     ("network_fs", "partial"), ("malformed", "complete"), ("vanished", "complete")],
)  # fmt: skip
def test_silence_is_not_health(host: Host, reason: str, status: str) -> None:
    """A section from which something is hidden says so, and how much."""
    scan = Scan()
    scan.skip(reason, "/home/alice/x")  # type: ignore[arg-type]
    section = document.compose(host, outcomes_of(scan), redact.Printed(redact.People.of(host))).sections["x"]

    assert section.status == status
    assert (section.reason is None) == (status == "complete")
    assert section.examples in ((f"{reason}: /home/USER/x",), ())


def test_the_manifest_names_host_and_parts_and_the_document_reads_back(host: Host) -> None:
    """The bytes that are hashed stand verbatim in the whole document."""
    draft = document.compose(
        host, outcomes_of(Scan(entries=[entry("/a")])), redact.Truth(), labels={"role": "web"}
    )
    manifest = canonical.encode(draft.manifest(seq=7, host_id="h-1"))

    sealed = decode_sealed(canonical.encode(draft.sealed(manifest)))

    read = decode_manifest(bytes(sealed.manifest))
    assert (read.host.hostname, read.host.host_id, read.seq) == ("web1", "h-1", 7)
    assert read.host.os == "Debian GNU/Linux 12 (bookworm)"
    assert read.host.machine_id_sha256 is not None
    assert "0123456789abcdef" not in repr(read)
    assert {digest: canonical.digest(bytes(part)) for digest, part in sealed.parts.items()} == {
        digest: digest for digest in draft.parts
    }


def test_what_fills_a_part_hides_itself_and_nothing_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user may fill a host with long names; the section then says that it is not whole."""
    # Given more than a part holds, most of it long names
    monkeypatch.setattr(limits, "PART_BYTES_MAX", 1000)
    long = [entry(f"/a/{n}/{'x' * 200}") for n in range(100)]
    scan = Scan(entries=[*long, entry("/etc/one.pem"), entry("/etc/two.pem")])

    # When the document is composed
    draft = document.compose(host, outcomes_of(scan), redact.Truth())

    # Then the part is within the limit, the short names are in it, and what is not is counted
    section = draft.sections["x"]
    part = draft.parts[section.parts.local or ""]
    kept = {one.key for one in decode_part(part)}
    assert {"/etc/one.pem", "/etc/two.pem"} <= kept
    assert len(part) <= 1000
    assert (section.status, section.skipped) == ("partial", {"budget": 102 - len(kept)})
    assert scan.skipped == {}


def test_a_name_that_no_reader_takes_is_left_out_and_counted(host: Host) -> None:
    """One file in a directory deep enough must not make the collector refuse the host."""
    longest = "/srv/" + "\x01" * (limits.STRING_CHARS_MAX // len("\\u0001") + 1)
    scan = Scan(entries=[entry(longest), entry("/etc/one.pem")])

    draft = document.compose(host, outcomes_of(scan), redact.Truth())

    section = draft.sections["x"]
    assert [one.key for one in decode_part(draft.parts[section.parts.local or ""])] == ["/etc/one.pem"]
    assert (section.status, section.skipped) == ("partial", {"too_large": 1})
    decode_manifest(canonical.encode(draft.manifest()))
