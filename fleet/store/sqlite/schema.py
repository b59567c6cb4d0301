# SPDX-License-Identifier: Apache-2.0
"""Which tables are there? Named migrations, each one transaction, never edited once released.

Like git: parts, assets and locations are content-addressed and never change; a host's history is a list of
intervals of sections. What a fleet shares is there once. A column that refers to a row is named after the
row's table.
"""

from __future__ import annotations

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("cryptofleet")


@migrations(name="0001_hosts")
def hosts(db: Database) -> None:
    """Who may post, who does, and who did what to that."""
    for statement in (
        # Of a token only its hash is kept.
        """CREATE TABLE token (
            id INTEGER PRIMARY KEY,
            sha256 TEXT NOT NULL UNIQUE,
            group_name TEXT,
            uses_max INTEGER NOT NULL,
            uses INTEGER NOT NULL DEFAULT 0,
            created_at TEXT NOT NULL,
            created_by TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            revoked_at TEXT,
            last_used_at TEXT
        )""",
        """CREATE TABLE host (
            id INTEGER PRIMARY KEY,
            host_id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            group_name TEXT,
            labels TEXT NOT NULL DEFAULT '{}',
            os TEXT,
            kernel TEXT,
            arch TEXT,
            agent_version TEXT,
            machine_id_sha256 TEXT,
            public_key TEXT NOT NULL,
            token INTEGER REFERENCES token(id),
            enrolled_at TEXT NOT NULL,
            revoked_at TEXT
        )""",
        "CREATE INDEX host_name ON host(name)",
        # What every post changes, also one that brings nothing new: kept apart, so that it stays one small
        # row.
        """CREATE TABLE host_seen (
            host INTEGER PRIMARY KEY REFERENCES host(id),
            first_seen TEXT NOT NULL,
            last_seen TEXT NOT NULL,
            skew_ms INTEGER,
            seq INTEGER NOT NULL,
            manifest_digest TEXT NOT NULL,
            content_digest TEXT NOT NULL,
            answer TEXT NOT NULL
        )""",
        # Times without a post, longer than hosts are quiet between two: what was known of a host then was
        # already old.
        """CREATE TABLE host_silence (
            host INTEGER NOT NULL REFERENCES host(id),
            silent_from TEXT NOT NULL,
            silent_to TEXT NOT NULL,
            PRIMARY KEY (host, silent_from)
        ) WITHOUT ROWID""",
        """CREATE TABLE audit (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            detail TEXT NOT NULL,
            previous TEXT NOT NULL,
            hash TEXT NOT NULL
        )""",
        # Written by the readiness check alone: the proof that a row can be made durable.
        "CREATE TABLE readiness (id INTEGER PRIMARY KEY CHECK (id = 1), checked_at TEXT NOT NULL)",
    ):
        db.execute(statement)


@migrations(name="0002_content")
def content(db: Database) -> None:
    """What was found: parts as they were received, and the same taken apart."""
    for statement in (
        # Digests of assets and locations are 32 raw bytes, because they are a third of what a unique entry
        # costs.
        """CREATE TABLE asset (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            name TEXT,
            version TEXT,
            algorithm TEXT,
            bits INTEGER,
            not_after TEXT,
            spki_sha256 TEXT,
            json TEXT NOT NULL
        )""",
        """CREATE TABLE location (
            id INTEGER PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,
            path TEXT,
            package TEXT,
            json TEXT NOT NULL
        )""",
        # `entries` is empty until a state refers to the part: only then is it taken apart.
        """CREATE TABLE part (
            id INTEGER PRIMARY KEY,
            digest TEXT NOT NULL UNIQUE,
            bytes INTEGER NOT NULL,
            entries INTEGER,
            received_at TEXT NOT NULL,
            body_zlib BLOB NOT NULL
        )""",
        # Which host has uploaded what no state of it refers to yet.
        """CREATE TABLE part_lease (
            part INTEGER NOT NULL REFERENCES part(id),
            host INTEGER NOT NULL REFERENCES host(id),
            leased_until TEXT NOT NULL,
            PRIMARY KEY (part, host)
        ) WITHOUT ROWID""",
        "CREATE INDEX part_lease_until ON part_lease(leased_until)",
        "CREATE INDEX part_lease_host ON part_lease(host)",
        """CREATE TABLE entry (
            part INTEGER NOT NULL REFERENCES part(id),
            key TEXT NOT NULL,
            asset INTEGER NOT NULL REFERENCES asset(id),
            location INTEGER NOT NULL REFERENCES location(id),
            PRIMARY KEY (part, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX entry_asset ON entry(asset, part)",
        """CREATE TABLE section (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            detector INTEGER NOT NULL,
            sampled INTEGER NOT NULL,
            vendor_part INTEGER REFERENCES part(id),
            local_part INTEGER REFERENCES part(id)
        )""",
        # NULLs differ from one another in a unique index, so an absent part counts as 0, which no part's id
        # is.
        """CREATE UNIQUE INDEX section_content
            ON section(name, detector, sampled, COALESCE(vendor_part, 0), COALESCE(local_part, 0))""",
        "CREATE INDEX section_vendor_part ON section(vendor_part)",
        "CREATE INDEX section_local_part ON section(local_part)",
        # How many hosts have it now: maintained, because counting a fleet's entries on demand takes seconds.
        """CREATE TABLE section_hosts (
            section INTEGER PRIMARY KEY REFERENCES section(id),
            hosts INTEGER NOT NULL
        )""",
    ):
        db.execute(statement)


@migrations(name="0003_history")
def history(db: Database) -> None:
    """Which host had which section from when to when, and how far its scanner got."""
    for statement in (
        # `coverage` is what SectionState says beyond status and reason; NULL says nothing. `valid_to` NULL
        # means now.
        """CREATE TABLE host_section (
            host INTEGER NOT NULL REFERENCES host(id),
            name TEXT NOT NULL,
            section INTEGER NOT NULL REFERENCES section(id),
            status TEXT NOT NULL,
            reason TEXT,
            coverage TEXT,
            valid_from TEXT NOT NULL,
            valid_to TEXT,
            PRIMARY KEY (host, name, valid_from)
        ) WITHOUT ROWID""",
        "CREATE INDEX host_section_open ON host_section(section, host) WHERE valid_to IS NULL",
        # The newest manifest that brought a change, with what its signature is over kept to the byte.
        """CREATE TABLE state (
            host INTEGER PRIMARY KEY REFERENCES host(id),
            seq INTEGER NOT NULL,
            collected_at TEXT NOT NULL,
            received_at TEXT NOT NULL,
            signature TEXT NOT NULL,
            live TEXT NOT NULL,
            manifest_zlib BLOB NOT NULL
        )""",
        # AUTOINCREMENT, so that a cursor is never given twice, even after rows at the end were deleted.
        """CREATE TABLE change (
            cursor INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            host INTEGER NOT NULL REFERENCES host(id),
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            old_section INTEGER REFERENCES section(id),
            new_section INTEGER REFERENCES section(id)
        )""",
        "CREATE INDEX change_host ON change(host, cursor)",
        # For people with `datasette fleet.db`: one line per thing that is on a host now.
        """CREATE VIEW current_entry AS
            SELECT host.name AS host, host_section.name AS section, host_section.status, entry.key,
                   asset.kind, asset.name, asset.version, asset.algorithm, asset.bits, asset.not_after,
                   location.path, location.package, asset.id AS asset, host.host_id
            FROM host_section
            JOIN host ON host.id = host_section.host AND host.revoked_at IS NULL
            JOIN section ON section.id = host_section.section
            JOIN entry ON entry.part IN (section.vendor_part, section.local_part)
            JOIN asset ON asset.id = entry.asset
            JOIN location ON location.id = entry.location
            WHERE host_section.valid_to IS NULL""",
    ):
        db.execute(statement)
