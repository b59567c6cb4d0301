# SPDX-License-Identifier: Apache-2.0
"""The document: parts, manifests, and the published schema."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import canonical, limits, schema
from agent.model.asset import FipsMode, LibraryUse
from agent.model.inventory import (
    AgentIdentity,
    Entry,
    HostIdentity,
    Manifest,
    PartDigests,
    SectionState,
    decode_manifest,
    decode_part,
    decode_sealed,
    encode_part,
)
from agent.model.location import Location

ENTRIES = st.lists(
    st.builds(
        Entry,
        key=st.text(min_size=1, max_size=30),
        asset=st.builds(
            LibraryUse, family=st.just("openssl"), name=st.text(max_size=8), deleted=st.booleans()
        ),
        where=st.builds(Location, path=st.none() | st.text(max_size=20)),
    ),
    unique_by=lambda entry: entry.key,
    max_size=12,
)


def manifest(**changes: Any) -> Manifest:  # noqa: ANN401 - fields of Manifest
    """A manifest with nothing remarkable in it."""
    fields: dict[str, Any] = {
        "schema": 1,
        "host": HostIdentity(kind="agent", hostname="web1"),
        "agent": AgentIdentity(version="0.1.0"),
        "collected_at": "2026-01-01T00:00:00.000000Z",
        "sections": {"host": SectionState(status="complete", detector=1, parts=PartDigests())},
    }
    return Manifest(**{**fields, **changes})


@given(ENTRIES, st.randoms(use_true_random=False))
def test_any_order_of_discovery_gives_the_same_bytes(entries: list[Entry], order: random.Random) -> None:
    """A file system's order must never look like a change."""
    shuffled = entries[:]
    order.shuffle(shuffled)

    assert encode_part(shuffled) == encode_part(entries)


@given(ENTRIES)
def test_a_part_reads_back_as_it_was(entries: list[Entry]) -> None:
    """Sorted by key and otherwise the same."""
    assert list(decode_part(encode_part(entries))) == sorted(entries, key=lambda entry: entry.key)


def test_two_entries_of_one_key_are_a_bug_of_the_scanner() -> None:
    """Never silently one of them."""
    entry = Entry(key="a", asset=FipsMode(enabled=False, supported=True), where=Location())

    with pytest.raises(ValueError, match="two entries have the key 'a'"):
        encode_part([entry, entry])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}", "array"),
        (b'[{"key":"a"}]', "asset"),
        (b'[{"key":"a","asset":{"kind":"wish"}}]', "wish"),
        (b'[{"key":"","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}}]', "length"),
        (
            b'[{"key":"b","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}},{"key":"a","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}}]',
            "sorted",
        ),
        (
            b'[{"key":"a","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}},{"key":"a","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}}]',
            "sorted",
        ),
        (
            b'[{"key":"a","key":"b","asset":{"kind":"fips-mode","enabled":true,"supported":true},"where":{}}]',
            "twice",
        ),
        (b"[" + b" " * limits.PART_BYTES_MAX + b"]", "limit"),
    ],
)
def test_a_received_part_that_is_not_one_is_refused(data: bytes, words: str) -> None:
    """With words that say what and where."""
    with pytest.raises(canonical.MalformedDocumentError, match=words):
        decode_part(data)


def test_an_unknown_field_of_a_newer_agent_is_taken() -> None:
    """The bytes are what is hashed and kept, so an older collector loses nothing."""
    asset = b'{"enabled":true,"kind":"fips-mode","later":{"x":1},"supported":true}'
    data = b'[{"asset":' + asset + b',"key":"a","new":2,"where":{}}]'

    assert decode_part(data)[0].key == "a"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 0},
        {"sections": {"x": {"status": "fine", "detector": 1, "parts": {}}}},
        {"sections": {"x": {"status": "complete", "detector": 1, "parts": {"local": "sha256:zz"}}}},
        {"collected_at": "yesterday"},
        {"collected_at": "2026-02-30T00:00:00.000000Z"},
        {"seq": -1},
    ],
)
def test_a_manifest_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Each field is checked by its type, before anybody acts on it."""
    fields = msgspec.to_builtins(manifest())

    with pytest.raises(canonical.MalformedDocumentError):
        decode_manifest(canonical.encode({**fields, **change}))


def test_unset_fields_are_omitted() -> None:
    """Absent means that the source does not say; there is no second way to say it."""
    state = SectionState(status="complete", detector=1, parts=PartDigests(), skipped={}, examples=())

    assert canonical.encode(state) == b'{"detector":1,"parts":{},"status":"complete"}'


def test_a_sealed_document_keeps_the_senders_bytes() -> None:
    """What is hashed and signed is the text as it came, not our way to write it."""
    odd = b'{"b" : 1,\n "a":2}'

    sealed = decode_sealed(b'{"manifest":' + odd + b',"parts":{}}')

    assert bytes(sealed.manifest) == odd


def test_the_published_schema_is_that_of_the_types() -> None:
    """Run `python -m agent.model.schema` after changing a type."""
    assert schema.PATH.read_text() == schema.text()


def test_the_schema_takes_a_document_and_refuses_a_broken_one() -> None:
    """Checked by a validator that is not ours."""
    validator = jsonschema.Draft202012Validator(schema.build())
    jsonschema.Draft202012Validator.check_schema(schema.build())
    part = encode_part([Entry(key="a", asset=FipsMode(enabled=False, supported=True), where=Location())])
    document = {
        "manifest": msgspec.to_builtins(manifest()),
        "parts": {canonical.digest(part): json.loads(part)},
    }

    assert list(validator.iter_errors(document)) == []

    document["manifest"]["sections"]["host"]["status"] = "fine"
    assert list(validator.iter_errors(document))


def test_every_field_of_the_document_has_its_sentence() -> None:
    """The schema is the documentation of the document; a field without words is undocumented."""
    bare = []
    for name, definition in schema.build()["$defs"].items():
        for field, content in definition.get("properties", {}).items():
            described = (
                "description" in content or "$ref" in content or "enum" in content or "const" in content
            )
            if not described and not any("description" in option for option in content.get("anyOf", [])):
                bare.append(f"{name}.{field}")

    assert bare == []
