# SPDX-License-Identifier: Apache-2.0
"""The sinks that write whole documents: a file and standard output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.model.inventory import decode_manifest, decode_sealed
from agent.posting import signing
from agent.posting.spool import Spool
from agent.settings import Collector
from agent.sinks import Context, file, stdout
from agent.state import StateDirectory
from tests.agent.given import draft, enrolled, fixture_host


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A run that keeps nothing."""
    return Context(host=fixture_host(tmp_path), collector=Collector())


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """A state directory."""
    with StateDirectory(str(tmp_path / "agent")) as found:
        yield found


def test_a_document_is_whole_and_the_same_each_time(context: Context, tmp_path: Path) -> None:
    """Unsigned and unnumbered where the host has no key."""
    path = tmp_path / "inventory.json"

    receipt = file.send(draft("libssl"), file.Settings(path=str(path)), context)
    first = path.read_bytes()
    file.send(draft("libssl"), file.Settings(path=str(path)), context)

    assert path.read_bytes() == first
    assert (receipt.where, receipt.outcome) == (str(path), "written")
    document = decode_sealed(first)
    assert document.signature is None
    assert decode_manifest(bytes(document.manifest)).seq == 0
    assert {digest: bytes(part) for digest, part in document.parts.items()} == draft("libssl").parts
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["inventory.json"]


def test_an_enrolled_hosts_document_is_signed_and_names_it(
    context: Context, state: StateDirectory, tmp_path: Path
) -> None:
    """So that it can be verified years later, and told from those before and after it."""
    _, key = enrolled(state, "https://c.example", b"")
    own = Context(host=context.host, collector=context.collector, state=state)

    file.send(draft("libssl"), file.Settings(path=str(tmp_path / "i.json")), own)

    document = decode_sealed((tmp_path / "i.json").read_bytes())
    assert document.signature is not None
    assert document.signature.public_key == key.public_base64
    assert signing.is_signed(bytes(document.manifest), document.signature)
    manifest = decode_manifest(bytes(document.manifest))
    assert (manifest.host.host_id, manifest.seq) == (key.host_id, 1)
    assert Spool(state, key).put(draft("libssl")).seq == 2


def test_a_link_or_device_in_the_files_place_is_left_alone(context: Context, tmp_path: Path) -> None:
    """Renaming over it would take it away."""
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "dir").mkdir()
    for name in ("link", "dir"):
        with pytest.raises(errors.ConfigError, match=r"sink\.file\.path: .* is no plain file"):
            file.send(draft(), file.Settings(path=str(tmp_path / name)), context)
    with pytest.raises(errors.ConfigError, match=r"sink\.file\.path: .* is no plain file"):
        file.send(draft(), file.Settings(path="/dev/full"), context)
    assert sorted(os.listdir(tmp_path)) == ["dir", "link"]


def test_a_place_that_cannot_be_written_to_is_named(context: Context, tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(errors.ConfigError, match=r"cannot write .*/no/i\.json: no such file"):
        file.send(draft(), file.Settings(path=str(tmp_path / "no" / "i.json")), context)


@pytest.mark.root
def test_a_full_disk_keeps_the_document_before(context: Context, tmp_path: Path) -> None:
    """And leaves nothing of the attempt behind."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        f"mount -t tmpfs -o size=32k tmpfs {place}".split(), check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.decode().strip()}")
    try:
        to = file.Settings(path=str(place / "i.json"))
        file.send(draft("libssl"), to, context)
        before = (place / "i.json").read_bytes()
        with pytest.raises(errors.ConfigError, match="no space left on device"):
            file.send(draft("libssl", padding="x" * 60_000), to, context)
        assert (place / "i.json").read_bytes() == before
        assert os.listdir(place) == ["i.json"]
    finally:
        subprocess.run(["umount", place], check=True)


def test_standard_output_gets_the_document_on_one_line(
    context: Context, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """For a pipe into jq or a run over SSH."""
    receipt = stdout.send(draft("libssl"), stdout.Settings(), context)

    out = capfdbinary.readouterr().out
    assert out.count(b"\n") == 1
    assert decode_sealed(out).parts.keys() == draft("libssl").parts.keys()
    assert receipt.outcome == "written"


def test_a_reader_that_has_gone_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    """The command line ends quietly on it (`| head`)."""
    script = (
        "import os, sys; from agent.settings import Collector; from agent.host import Host\n"
        "from agent.sinks import Context, stdout; from tests.agent.given import draft\n"
        "os.close(0); r, w = os.pipe(); os.close(r); os.dup2(w, 1)\n"
        "try: stdout.send(draft('x'), stdout.Settings(), Context(host=Host('/'), collector=Collector()))\n"
        "except BrokenPipeError: os._exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
