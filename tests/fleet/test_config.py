# SPDX-License-Identifier: Apache-2.0
"""Is a data directory one that a collector can trust, and what if something of it is lost?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet import authority, enroll, errors
from fleet.collector import server
from fleet.config import DataDir, Settings
from fleet.store import open_store


@pytest.fixture
def used(data: DataDir) -> DataDir:
    """A data directory that a collector has served from."""
    server.initialise(Settings(data=data))
    data.tls.mkdir(mode=0o700)
    return data


def _bytes(data: DataDir) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data.lasting if path.exists()}


@pytest.mark.parametrize("name", ["ca/ca.pem", "ca/ca.key", "pseudonym.key", "fleet.db"])
@pytest.mark.parametrize("emptied", [False, True])
def test_what_was_lost_is_told_and_not_made_anew(used: DataDir, name: str, emptied: bool) -> None:
    """The service starts with --init each time: a new CA or an empty store would end the fleet unseen."""
    # Given a directory in use that has lost something
    lost = used.root / name
    lost.write_bytes(b"") if emptied else lost.unlink()
    before = _bytes(used)
    # When it is to be initialised / Then what is lost is named, and nothing else is touched
    with pytest.raises(errors.ConfigError, match=f"{name}.*backup"):
        server.initialise(Settings(data=used))
    assert _bytes(used) == before


def test_a_first_initialisation_that_was_cut_short_is_gone_on_with(data: DataDir) -> None:
    """Nobody has been told the pin of a collector that has never served."""
    # Given a directory whose store was not made any more
    server.initialise(Settings(data=data))
    pin = authority.load_authority(data.ca).pin
    data.database.unlink()
    # When it is initialised again / Then it is whole, and what was there is kept
    server.initialise(Settings(data=data))
    assert authority.load_authority(data.ca).pin == pin
    open_store(data.database).close()


def test_an_empty_file_is_no_store(used: DataDir) -> None:
    """A report of no hosts would look like an answer."""
    used.database.write_bytes(b"")
    with pytest.raises(errors.ConfigError, match="empty"):
        open_store(used.database)
    assert used.database.read_bytes() == b""


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(used: DataDir, mode: int) -> None:
    """They could put their own CA in the place of ours."""
    used.root.chmod(mode)
    for use in (used.create, used.require):
        with pytest.raises(errors.ConfigError, match="others can write"):
            use()


def test_a_directory_of_another_user_is_refused(used: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, and before anything in it is found unreadable."""
    owner = used.root.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    for use in (used.create, used.require):
        with pytest.raises(errors.ConfigError, match=f"belongs to uid {owner} .* run as its owner"):
            use()


def test_a_key_that_others_can_read_is_refused(used: DataDir) -> None:
    """A backup that was unpacked with other modes may have been read since."""
    (used.ca / "ca.key").chmod(0o640)
    with pytest.raises(errors.ConfigError, match=r"ca\.key has mode 0640"):
        authority.load_authority(used.ca)
    used.pseudonym_key.chmod(0o604)
    with pytest.raises(errors.ConfigError, match=r"pseudonym\.key has mode 0604"):
        enroll.load_pseudonym_key(used.pseudonym_key)
