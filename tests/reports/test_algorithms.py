# SPDX-License-Identifier: Apache-2.0
"""Is the algorithm table true, as far as a machine can tell, and unknown where it does not know?"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from cryptography.hazmat import _oid
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid as x509_oid

from agent.model.asset import PublicKey
from reports.algorithms import AlgorithmTable, AlgorithmTableError
from tests.reports.samples import ec as ec_key
from tests.reports.samples import rsa, sha256, signed

SOURCE = '[source.s]\ntitle = "t"\nwhere = "w"\n'
OPENSSL = shutil.which("openssl")


def rows(text: str) -> AlgorithmTable:
    """A table of these rows, with one source."""
    return AlgorithmTable(f'edition = "1"\n{SOURCE}{text}')


def row(name: str, **fields: str) -> str:
    """One row; values are TOML."""
    plain = {
        "family": '"f"',
        "primitives": '["hash"]',
        "sources": '["s 1"]',
        "verified": '["cited"]',
        "quantum_vulnerable": "false",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in (plain | fields).items())
    return f'[[algorithm]]\nname = "{name}"\n{lines}'


def openssl_oid(name: str, openssl: str) -> str | None:
    """The OID that the openssl command knows for a name; None when it knows none."""
    made = subprocess.run(
        [openssl, "asn1parse", "-genstr", f"OID:{name}", "-noout", "-out", "/dev/stdout"],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0 or not made.stdout:
        return None
    arcs, value = [], 0
    for byte in made.stdout[2:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def test_names_that_openssl_knows_have_its_oid(table: AlgorithmTable) -> None:
    """A wrong digit in an OID makes a weak signature unknown, or worse, another one."""
    if OPENSSL is None:
        pytest.skip("no openssl command on this machine")
    for algorithm in table.rows:
        if "openssl" not in algorithm.verified or algorithm.oid is None:
            continue
        # openssl minds case and hyphens; the table does not.
        words = {word for word in (algorithm.name, *algorithm.aliases) if " " not in word}
        words |= {word.upper() for word in words} | {word.lower() for word in words}
        words |= {word.replace("-", "").replace("/", "-") for word in words} | {
            word.replace("/", "-") for word in words
        }
        known = {found for word in sorted(words) for found in [openssl_oid(word, OPENSSL)] if found}

        # openssl calls X.500's own identifier of RSA "RSA", too; no certificate carries it.
        assert known - {"2.5.8.1.1"} == {algorithm.oid}, algorithm.name


def test_curves_have_the_size_that_openssl_says(table: AlgorithmTable) -> None:
    """Strength is read off the size of the field."""
    if OPENSSL is None:
        pytest.skip("no openssl command on this machine")
    listed = subprocess.run(
        [OPENSSL, "ecparam", "-list_curves"], capture_output=True, check=True, text=True
    ).stdout
    sizes = {name: int(bits) for name, bits in re.findall(r"(\w+)\s*:[^:]*?over a (\d+) bit", listed)}
    checked = 0
    for algorithm in table.rows:
        for word in algorithm.words:
            if algorithm.curve_bits is not None and word in sizes:
                assert sizes[word] == algorithm.curve_bits, algorithm.name
                checked += 1

    assert checked >= 15


def test_every_signature_of_the_x509_library_has_a_row_with_its_hash(table: AlgorithmTable) -> None:
    """What the agent can name, the table must know: its scanner reads certificates with this library."""
    # GOST is named by the library and judged by none of our sources; an unsigned certificate has no
    # algorithm.
    foreign = {"1.2.643.2.2.3", "1.2.643.7.1.1.3.2", "1.2.643.7.1.1.3.3", "1.3.6.1.5.5.7.6.36"}
    for oid, hash_algorithm in _oid._SIG_OIDS_TO_HASH.items():
        if oid.dotted_string in foreign:
            continue
        found = table.find("signature", oid.dotted_string)

        assert found is not None, oid.dotted_string
        if hash_algorithm is not None:
            assert found.hash is not None
            assert table.find("hash", found.hash) == table.find("hash", hash_algorithm.name), (
                oid.dotted_string
            )


def test_rows_said_to_be_verified_by_the_x509_library_are_in_it(table: AlgorithmTable) -> None:
    """`verified` is a claim, and a claim is kept by a machine or not made."""
    registers = (x509_oid.SignatureAlgorithmOID, x509_oid.PublicKeyAlgorithmOID, ec.EllipticCurveOID)
    known = {
        value.dotted_string
        for register in registers
        for value in vars(register).values()
        if hasattr(value, "dotted_string")
    }
    claimed = {algorithm.oid for algorithm in table.rows if "cryptography" in algorithm.verified}

    assert claimed <= known


def test_every_hash_that_a_scheme_names_has_a_row(table: AlgorithmTable) -> None:
    """Else a known signature would be unknown for want of its hash."""
    named = {algorithm.hash for algorithm in table.rows if algorithm.hash}

    assert [name for name in sorted(named) if table.find("hash", name) is None] == []


def test_an_algorithm_without_a_row_is_unknown(table: AlgorithmTable) -> None:
    """Unknown is neither weak nor fine."""
    # Given a key and a signature by an algorithm that nobody has registered
    key = PublicKey(algorithm="1.3.6.1.4.1.99999.1", spki_sha256=sha256("x"))

    assert table.of_key(key) is None
    assert table.of_signature(signed("1.3.6.1.4.1.99999.2")) is None
    assert table.hash_of(signed("1.3.6.1.4.1.99999.2")) is None


@pytest.mark.parametrize(
    ("bits", "below_112", "below_128"),
    [(512, True, True), (1024, True, True), (2047, True, True), (2048, False, True), (3072, False, False)],
)
def test_an_rsa_key_has_the_strength_of_the_greatest_row_it_reaches(
    table: AlgorithmTable, bits: int, below_112: bool, below_128: bool
) -> None:
    """SP 800-57 Part 1 gives figures for some sizes; between two of them the lower one holds."""
    found = table.of_key(rsa(bits))

    assert found is not None
    assert found.strength_below(112) is below_112
    assert found.strength_below(128) is below_128


def test_an_rsa_key_of_unstated_size_is_unknown(table: AlgorithmTable) -> None:
    """No size, no figure."""
    assert table.of_key(rsa(None)) is None


def test_a_curve_without_a_row_can_be_too_small_but_never_large_enough(table: AlgorithmTable) -> None:
    """No curve is stronger than half its size; that a curve of 283 bits is as strong as that, nobody said."""
    small, large = table.of_key(ec_key("sect163k1", 163)), table.of_key(ec_key("sect283k1", 283))

    assert small is not None
    assert small.strength_below(112) is True
    assert large is not None
    assert large.strength_below(112) is None


@pytest.mark.parametrize("word", ["SHA-256", "sha256", "SHA_256", "2.16.840.1.101.3.4.2.1"])
def test_a_word_is_found_whatever_its_case_and_hyphens(table: AlgorithmTable, word: str) -> None:
    """Libraries write the same name in many ways."""
    found = table.find("hash", word)

    assert found is not None
    assert found.name == "SHA-256"


def test_a_key_that_the_host_could_only_name_by_oid_gets_its_name(table: AlgorithmTable) -> None:
    """An old library on the host must not make a report unreadable."""
    key = PublicKey(algorithm="2.16.840.1.101.3.4.3.18", spki_sha256=sha256("ml"))

    assert table.words_of_key(key) == "ML-DSA-65"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (row("a", strenght_bits="1"), "strenght_bits"),
        (row("a", sources='["nowhere 1"]'), "nowhere"),
        (row("a") + row("A"), "both called"),
        (
            row("a", aliases='["x"]', size_bits="8") + row("b", aliases='["x"]', size_bits="4"),
            "sort the rows",
        ),
        (row("a", aliases='["x"]') + row("b", aliases='["x"]', size_bits="4"), "both called"),
        (row("a", oid='"1.2.x"'), "oid"),
        (row("a", sources="[]"), "sources"),
        ("[[algorithm", "TOML"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(text: str, says: str) -> None:
    """A row nobody can find, or two that answer to one word, would be a silent hole."""
    with pytest.raises(AlgorithmTableError, match=says if says != "TOML" else "algorithms.toml"):
        rows(text)


def test_the_digest_follows_the_content_and_not_the_comments() -> None:
    """A new figure must judge anew; a new comment must not."""
    one, same, other = rows(row("a")), rows("# why\n" + row("a")), rows(row("a", broken="true"))

    assert one.digest == same.digest
    assert one.digest != other.digest
