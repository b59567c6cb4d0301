# SPDX-License-Identifier: Apache-2.0
"""What tests of the way to the collector begin with: a draft of an inventory, a host that is enrolled."""

from __future__ import annotations

import base64
from pathlib import Path

from agent.document import Draft
from agent.host import Host
from agent.model import canonical
from agent.model.asset import LibraryUse
from agent.model.inventory import AgentIdentity, Entry, HostIdentity, PartDigests, SectionState, encode_part
from agent.model.location import Location
from agent.posting import enrolment
from agent.posting.enrolment import Enrolment
from agent.posting.identity import HostKey, ensure_key
from agent.secret import Secret
from agent.state import StateDirectory

PSEUDONYM_KEY = base64.b64encode(b"a pseudonym key for tests 32byte").decode()
MICROSECOND_NS = 1000


def draft(*libraries: str, hostname: str = "web7", at_us: int = 0, padding: str = "") -> Draft:
    """An inventory of one section; the libraries named are its entries."""
    parts = {}
    found = PartDigests()
    if libraries:
        part = encode_part(
            Entry(
                key=name,
                asset=LibraryUse(family="openssl", name=name, version=padding or None),
                where=Location(),
            )
            for name in libraries
        )
        parts[canonical.digest(part)] = part
        found = PartDigests(local=canonical.digest(part))
    return Draft(
        host=HostIdentity(kind="agent", hostname=hostname),
        agent=AgentIdentity(version="0.1.0"),
        collected_at=canonical.timestamp(at_us * MICROSECOND_NS),
        sections={"libraries": SectionState(status="complete", detector=1, parts=found)},
        parts=parts,
        live={"libraries": {"mapped": 3}},
    )


def enrolled(
    state: StateDirectory, url: str, ca_pem: bytes, pins: tuple[str, ...] = ()
) -> tuple[Enrolment, HostKey]:
    """A host that this collector knows."""
    key = ensure_key(state)
    found = Enrolment(
        url=url,
        host_id=key.host_id,
        ca_pem=ca_pem,
        ca_pins=pins,
        pseudonym_key=Secret(PSEUDONYM_KEY),
        pseudonym_key_id="p-1",
        next_post_s=3600,
    )
    enrolment._save(state, found)
    return found, key


def fixture_host(root: Path) -> Host:
    """A host that is a directory; only its clock is looked at."""
    return Host(str(root))
