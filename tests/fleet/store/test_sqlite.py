# SPDX-License-Identifier: Apache-2.0
"""Does SQLite keep the contract, and what only it promises: tables people can read, counts that are right?"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from agent.model import canonical
from agent.model.inventory import encode_part
from fleet import errors
from fleet.store import Store, open_store
from fleet.store.records import Accepted
from fleet.store.sqlite.schema import migrations
from tests.fleet.documents import certificate, library, part, section
from tests.fleet.store.contract import Fleet, StoreContract


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    found = open_store(tmp_path / "fleet.db", create=True)
    yield found
    found.close()


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The same database, as anybody reads it."""
    connection = sqlite3.connect(f"file:{tmp_path / 'fleet.db'}?mode=ro", uri=True)
    yield connection
    connection.close()


class TestSqlite(StoreContract):
    """The contract, kept by SQLite."""


@pytest.fixture
def fleet(store: Store) -> Fleet:
    """The store and a clock."""
    return Fleet(store)


def test_what_hosts_share_is_stored_once(fleet: Fleet, rows: sqlite3.Connection) -> None:
    """Cost grows with distinct content, not with hosts times assets."""
    # Given ten hosts with the same libraries and one certificate of their own each
    shared = encode_part([library(1), library(3)])
    for number in range(10):
        said = {"libraries": section(vendor=shared), "certificates": section(local=part(number))}
        fleet.show(fleet.host(), said, shared, part(number))
    # When the rows are counted / Then the libraries are there once
    counts = {
        table: rows.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        for table in ("part", "section", "asset", "location", "entry", "host_section")
    }
    assert counts == {"part": 11, "section": 11, "asset": 12, "location": 12, "entry": 12, "host_section": 20}


def test_an_asset_is_one_row_wherever_it_stands(fleet: Fleet, rows: sqlite3.Connection) -> None:
    """Locations never enter an asset's identity."""
    body = encode_part([certificate(1, directory="/etc/a"), certificate(1, directory="/etc/b")])
    fleet.show(fleet.host(), {"certificates": section(local=body)}, body)
    found = rows.execute("SELECT kind, name, algorithm, bits, not_after, spki_sha256 FROM asset").fetchall()
    not_after = "2027-01-01T00:00:00.000000Z"
    assert found == [("certificate", "CN=host1.example.org", "EC", 256, not_after, f"{1:064x}")]
    assert rows.execute("SELECT COUNT(*) FROM entry").fetchone() == (2,)


def test_the_maintained_counts_are_what_counting_would_give(fleet: Fleet, rows: sqlite3.Connection) -> None:
    """A count that drifts is worse than none."""
    hosts = [fleet.host() for _ in range(4)]
    for host_id in hosts:
        fleet.show(host_id, {"libraries": section(local=part(1)), "host": section()}, part(1))
    fleet.show(hosts[0], {"libraries": section(local=part(2)), "host": section()}, part(2))
    fleet.say(hosts[1], {"libraries": section(local=part(1), status="partial", reason="denied")})
    fleet.say(hosts[2], {})
    fleet.store.revoke_host(hosts[3], actor="operator:test", now_ns=fleet.tick()).result()
    counted = rows.execute(
        "SELECT section.id, COUNT(host_section.host) FROM section LEFT JOIN host_section"
        " ON host_section.section = section.id AND host_section.valid_to IS NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows.execute("SELECT section, hosts FROM section_hosts ORDER BY 1").fetchall() == counted
    assert sum(hosts for _, hosts in counted) == 3


def test_current_entries_can_be_read_without_knowing_the_tables(
    fleet: Fleet, rows: sqlite3.Connection
) -> None:
    """`datasette fleet.db` must be pleasant."""
    body = encode_part([library(3)])
    fleet.show(fleet.host(), {"libraries": section(vendor=body, local=part(1))}, body, part(1))
    found = rows.execute(
        "SELECT host, section, kind, name, version, package FROM current_entry ORDER BY kind"
    ).fetchall()
    assert found == [
        ("web1", "libraries", "certificate", "CN=host1.example.org", None, None),
        ("web1", "libraries", "library", "libcrypto", "3.0", "libssl"),
    ]


def test_every_reference_between_tables_holds(fleet: Fleet, store: Store, tmp_path: Path) -> None:
    """Declared foreign keys are links for people, not enforced on the way in; so they are checked here."""
    for number in range(3):
        fleet.show(
            fleet.host(), {"libraries": section(local=part(number), vendor=part(9))}, part(number), part(9)
        )
    store.close()
    connection = sqlite3.connect(tmp_path / "fleet.db")
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_post_is_on_disk_before_it_is_answered(fleet: Fleet, tmp_path: Path) -> None:
    """Another connection, which shares no memory with the writer, sees it at once."""
    host_id = fleet.host()
    for seq in range(1, 20):
        post = fleet.post(host_id, seq, {"libraries": section(detector=seq)})
        assert fleet.store.put_state(post).result() == Accepted(seq)
        connection = sqlite3.connect(tmp_path / "fleet.db")
        assert connection.execute("SELECT seq FROM host_seen").fetchone() == (seq,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


def test_one_job_that_goes_wrong_costs_no_other_its_transaction(fleet: Fleet, store: Store) -> None:
    """Posts share a transaction; a bug that one of them finds must stay its own."""
    # Given a host, and a post that names a part whose stored bytes were damaged
    good, bad = fleet.host(), fleet.host()
    fleet.upload(bad, part(1))
    submit = store._writer.submit  # type: ignore[attr-defined]  # the SQLite store's
    submit(lambda db: db.execute("UPDATE part SET body_zlib = x'00'")).result()
    # When both post at once
    posts = [fleet.post(bad, 1, {"host": section(), "libraries": section(local=part(1))})]
    posts += [fleet.post(good, seq, {"host": section(detector=seq)}) for seq in range(1, 4)]
    futures = [store.put_state(post) for post in posts]
    # Then one fails as a whole and the others are taken
    assert isinstance(futures[0].exception(), errors.StoreError)
    assert [future.result() for future in futures[1:]] == [Accepted(1), Accepted(2), Accepted(3)]
    assert fleet.sections(bad) == {}


def test_a_full_disk_fails_what_waits_and_nothing_else(fleet: Fleet, store: Store) -> None:
    """What cannot be kept is said to be so; when there is room again, work goes on."""
    # Given a store that may not grow
    host_id = fleet.host()
    fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
    before = fleet.store.snapshots()
    submit = store._writer.submit  # type: ignore[attr-defined]  # the SQLite store's
    pages = submit(lambda db: db.execute("PRAGMA page_count").fetchone()[0]).result()
    submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone()).result()
    # When more comes than fits
    large = part(*range(5000))
    future = store.put_part(
        host_id, canonical.digest(large), large, leased_until_ns=fleet.now_ns, now_ns=fleet.now_ns
    )
    # Then it is refused as unavailable, and nothing was lost
    assert isinstance(future.exception(), errors.StoreUnavailableError)
    assert fleet.store.snapshots() == before
    # And with room it is taken
    submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone()).result()
    fleet.show(host_id, {"libraries": section(local=large)}, large)


def test_a_closed_store_says_so(store: Store) -> None:
    """A request that comes after the end must not wait for ever."""
    store.close()
    store.close()
    with pytest.raises(errors.StoreUnavailableError):
        store.check_writable(now_ns=0)


def test_the_chain_of_the_audit_log_shows_a_changed_record(
    fleet: Fleet, store: Store, tmp_path: Path
) -> None:
    """Who can write the file can change a record, but not without being seen."""
    for _ in range(5):
        fleet.host()
    assert store.check_audit() is None
    connection = sqlite3.connect(tmp_path / "fleet.db")
    with connection:
        connection.execute("UPDATE audit SET detail = '{}' WHERE id = 4")
    connection.close()
    assert store.check_audit() == 4


def test_a_damaged_part_is_not_shown_as_if_it_were_whole(fleet: Fleet, store: Store, tmp_path: Path) -> None:
    """Content is known by its digest, also on the way out."""
    fleet.show(fleet.host(), {"libraries": section(local=part(1))}, part(1))
    connection = sqlite3.connect(tmp_path / "fleet.db")
    with connection:
        connection.execute("UPDATE part SET body_zlib = x'789c030000000001'")
    connection.close()
    with pytest.raises(errors.StoreError, match="damaged"):
        store.part(canonical.digest(part(1)))


def test_only_the_owner_can_read_the_database(store: Store, tmp_path: Path) -> None:
    """What hosts say is nobody else's business, whatever the umask."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"fleet.db": 0o600, "fleet.db-wal": 0o600, "fleet.db-shm": 0o600}


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    """A wrong path is told, not overwritten."""
    path = tmp_path / "fleet.db"
    path.write_bytes(b"something else entirely, and long enough to be looked at" * 50)
    before = path.read_bytes()
    with pytest.raises(errors.ConfigError, match="not a store of ours"):
        open_store(path)
    assert path.read_bytes() == before
    with pytest.raises(errors.ConfigError, match="no store"):
        open_store(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_migrations_are_named_and_recorded(store: Store, tmp_path: Path) -> None:
    """Which form a database has is written in it."""
    database = Database(tmp_path / "fleet.db")
    names = [found.name for found in migrations.applied(database)]
    assert names == sorted(names) == ["0001_hosts", "0002_content", "0003_history"]
    assert migrations.pending(database) == []
    database.close()


def test_two_processes_write_one_database(fleet: Fleet, store: Store, tmp_path: Path) -> None:
    """The operator's command writes beside the running collector."""
    other = open_store(tmp_path / "fleet.db")
    beside = Fleet(other, hosts=100)
    assert {fleet.host(), beside.host()} == {found.host.host_id for found in store.snapshots()}
    other.close()
    assert store.check_audit() is None


def test_hot_questions_use_an_index(store: Store, tmp_path: Path) -> None:
    """What every post and every view asks must not read a whole table."""
    connection = sqlite3.connect(tmp_path / "fleet.db")
    questions = (
        "SELECT id FROM host WHERE host_id = ?",
        "SELECT 1 FROM host_section WHERE host = ? AND valid_to IS NULL",
        "SELECT 1 FROM host_section WHERE section = ? AND valid_to IS NULL",
        (
            "SELECT id FROM section WHERE name = ? AND detector = ? AND sampled = ?"
            " AND COALESCE(vendor_part, 0) = COALESCE(?, 0) AND COALESCE(local_part, 0) = COALESCE(?, 0)"
        ),
        "SELECT 1 FROM section WHERE vendor_part = ?",
        "SELECT 1 FROM part_lease WHERE leased_until <= ?",
        "SELECT part FROM entry WHERE asset = ?",
    )
    for question in questions:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {question}", [None] * question.count("?")).fetchall()
        assert "SEARCH" in plan[0][3], (question, plan)
    connection.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write read-only files")
def test_a_read_only_database_is_unavailable(store: Store, tmp_path: Path) -> None:
    """An operator mends the mode; the database is not thought to be damaged."""
    store.close()
    (tmp_path / "fleet.db").chmod(0o400)
    with pytest.raises(errors.StoreUnavailableError):
        open_store(tmp_path / "fleet.db")


def test_coverage_says_nothing_where_there_is_nothing_to_say(fleet: Fleet, rows: sqlite3.Connection) -> None:
    """Most sections are complete; their rows stay small."""
    said = {"host": section(), "libraries": section(skipped={"denied": 1}, status="partial", reason="denied")}
    fleet.show(fleet.host(), said)
    found = dict(rows.execute("SELECT name, coverage FROM host_section"))
    assert found["host"] is None
    assert json.loads(found["libraries"]) == {"skipped": {"denied": 1}}
