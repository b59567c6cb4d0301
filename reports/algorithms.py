# SPDX-License-Identifier: Apache-2.0
"""What is known of an algorithm? The table of `algorithms.toml`, and how a key or a signature finds its row.

What has no row is unknown: never weak, never fine. So every question here has three answers: yes, no, None.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent.model import canonical
from agent.model.asset import PublicKey, SignatureAlgorithm

Primitive = Literal["public-key", "signature", "hash"]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
# What does not count when two names are compared: SHA-256, sha256 and SHA_256 are one hash. Dots count, they
# are in OIDs.
_NOISE = re.compile(r"[-_/ ]")


class AlgorithmTableError(ValueError):
    """The table contradicts itself or its form. The message names the row and what to do."""


class Source(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A document that rows cite."""

    title: Text
    where: Text


class Algorithm(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One row. The head of `algorithms.toml` says what each field means."""

    name: Text
    family: Text
    primitives: Annotated[tuple[Primitive, ...], Meta(min_length=1)]
    sources: Annotated[tuple[Text, ...], Meta(min_length=1)]
    verified: Annotated[tuple[Literal["openssl", "cryptography", "cited"], ...], Meta(min_length=1)]
    quantum_vulnerable: bool
    aliases: tuple[Text, ...] = ()
    oid: Annotated[str, Meta(pattern=r"^[0-2](\.[0-9]+)+$")] | None = None
    size_bits: Positive | None = None
    curve_bits: Positive | None = None
    strength_bits: Positive | None = None
    strength_bits_max: Positive | None = None
    nist_category: Annotated[int, Meta(ge=1, le=5)] | None = None
    hash: Text | None = None
    broken: bool | None = None
    note: Text | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Every text under which this row is found."""
        own = () if self.size_bits is not None else (self.name,)
        return own + self.aliases + ((self.oid,) if self.oid else ())

    def strength_below(self, bits: int) -> bool | None:
        """Whether it has less than so many bits against classical attack; None where the row does not say."""
        if self.strength_bits is not None:
            return self.strength_bits < bits
        if self.strength_bits_max is not None and self.strength_bits_max < bits:
            return True
        return None

    @property
    def strength(self) -> str:
        """The figure in words."""
        if self.strength_bits is not None:
            return f"{self.strength_bits} bits of strength"
        if self.strength_bits_max is not None:
            return f"at most {self.strength_bits_max} bits of strength"
        return "no known strength"


class _File(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    edition: Text
    source: dict[str, Source]
    algorithm: tuple[Algorithm, ...]


class AlgorithmTable:
    """The rows of one file, found by primitive and word.

    Attributes:
        edition: the date of the table.
        digest: of its content; part of every cached verdict's key, so that a better table judges anew.
        sources: what the rows cite.
        rows: in the order of the file.
    """

    def __init__(self, text: str, *, name: str = "algorithms.toml") -> None:
        """Read and check a table.

        Args:
            text: TOML.
            name: what the file is called in messages.

        Raises:
            AlgorithmTableError: what is wrong, and in which row.
        """
        try:
            file = msgspec.convert(tomllib.loads(text), _File)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise AlgorithmTableError(f"{name}: {error}") from error
        self.edition = file.edition
        self.sources = file.source
        self.rows = file.algorithm
        self.digest = canonical.digest(canonical.encode(file))
        self._found: dict[tuple[str, str], list[Algorithm]] = {}
        for row in self.rows:
            self._admit(row, name)

    def _admit(self, row: Algorithm, name: str) -> None:
        for source in row.sources:
            if source.split(" ", 1)[0] not in self.sources:
                raise AlgorithmTableError(f"{name}: {row.name} cites {source!r}, which no [source] describes")
        for primitive in row.primitives:
            for word in dict.fromkeys(_plain(word) for word in row.words):
                rows = self._found.setdefault((primitive, word), [])
                if rows and (row.size_bits is None or rows[-1].size_bits is None):
                    raise AlgorithmTableError(
                        f"{name}: {row.name} and {rows[-1].name} are both called {word!r} as {primitive}; "
                        "only rows with size_bits may share a word"
                    )
                if rows and (row.size_bits or 0) <= (rows[-1].size_bits or 0):
                    raise AlgorithmTableError(
                        f"{name}: {row.name} does not follow {rows[-1].name}; sort the rows by size_bits"
                    )
                rows.append(row)

    def find(self, primitive: Primitive, word: str, bits: int | None = None) -> Algorithm | None:
        """The row for a word: name, alias or OID.

        Args:
            bits: of the key. Where a word has rows by size it takes the greatest that is not larger than
                this; without it there is none.
        """
        rows = self._found.get((primitive, _plain(word)), [])
        if not rows or rows[0].size_bits is None:
            return rows[0] if rows else None
        if bits is None:
            return None
        return next((row for row in reversed(rows) if (row.size_bits or 0) <= bits), None)

    def of_key(self, key: PublicKey) -> Algorithm | None:
        """The row for a public key: by its curve where that has a row, else by algorithm and size."""
        if key.curve is not None:
            row = self.find("public-key", key.curve)
            if row is not None:
                return row
        return self.find("public-key", key.algorithm, key.bits)

    def words_of_key(self, key: PublicKey) -> str:
        """A public key in words, for people: `RSA 2048`, `EC secp256r1`, `Ed25519`, `ML-DSA-65`."""
        row = self.of_key(key)
        # A dotted algorithm is one the host's library had no word for; the table may have.
        name = row.name if row is not None and row.oid == key.algorithm else key.algorithm
        detail = key.curve or (str(key.bits) if key.bits is not None else "")
        return f"{name} {detail}".rstrip()

    def of_signature(self, signature: SignatureAlgorithm) -> Algorithm | None:
        """The row for the scheme of a signature, by its OID, which is registered; a name is a word for it."""
        return self.find("signature", signature.oid)

    def hash_of(self, signature: SignatureAlgorithm) -> str | None:
        """The hash under a signature: what the document states, else what the scheme fixes."""
        if signature.hash is not None:
            return signature.hash
        row = self.of_signature(signature)
        return row.hash if row else None


def _plain(word: str) -> str:
    return _NOISE.sub("", word).casefold()


@functools.cache
def shipped() -> AlgorithmTable:
    """The table that comes with this version."""
    return AlgorithmTable(
        importlib.resources.files("reports").joinpath("algorithms.toml").read_text(encoding="utf-8")
    )
