# SPDX-License-Identifier: Apache-2.0
"""Do conditions answer yes, no and unknown in the right places, and are they read with every word checked?"""

from __future__ import annotations

import datetime as dt
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.asset import Certificate, Library, TrustStore
from agent.model.canonical import timestamp_of
from agent.model.location import Location
from reports import algorithms, operators
from reports.algorithms import AlgorithmTable
from reports.condition import All as AllOf
from reports.condition import AnyOf, Condition, ConditionError, Not, RootTypes, parse
from reports.operators import Answer
from tests.reports.samples import NOW, SHA1_RSA, certificate, day, ec, library, rsa, signed

TYPES: RootTypes = {"asset": (Certificate,), "where": (Location,), "key": (str,)}


def read(toml: str, table: AlgorithmTable, types: RootTypes = TYPES) -> Condition:
    """A condition written as the value of a TOML key."""
    return parse(tomllib.loads(f"x = {toml}")["x"], types, table)


def holds(toml: str, table: AlgorithmTable, at: dt.datetime = NOW, **roots: object) -> bool | None:
    """Whether it holds for a certificate, at a moment."""
    roots.setdefault("asset", certificate())
    return read(toml, table).answer(roots, at).truth


class Fixed:
    """A condition that is what it is."""

    def __init__(self, truth: bool | None) -> None:
        self.truth = truth

    def answer(self, roots: object, at: dt.datetime) -> Answer:
        return Answer(self.truth, (str(self.truth),))

    def boundaries(self, roots: object) -> tuple[dt.datetime, ...]:
        return ()


truths = st.sampled_from([True, False, None])


@given(st.lists(truths, min_size=1, max_size=4))
def test_all_any_and_not_follow_kleene(values: list[bool | None]) -> None:
    """Unknown decides nothing where the known parts already have, and hides nothing where they have not."""
    parts = tuple(Fixed(value) for value in values)

    assert AllOf(parts).answer({}, NOW).truth is (
        False if False in values else None if None in values else True
    )
    assert AnyOf(parts).answer({}, NOW).truth is (
        True if True in values else None if None in values else False
    )
    assert Not(parts[0]).answer({}, NOW).truth is (None if values[0] is None else not values[0])


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('{ field = "asset.subject", eq = "CN=www.example.com" }', True),
        ('{ field = "asset.subject", eq = "CN=other" }', False),
        ('{ field = "asset.key.algorithm", in = ["RSA", "EC"] }', True),
        ('{ field = "asset.key.bits", lt = 2048 }', False),
        ('{ field = "asset.key.bits", le = 2048 }', True),
        ('{ field = "asset.key.bits", gt = 2048 }', False),
        ('{ field = "asset.key.bits", ge = 2048 }', True),
        ('{ field = "asset.key.bits", ge = 1024, lt = 2048 }', False),
        ('{ field = "asset.key.curve", eq = "secp256r1" }', None),
        ('{ field = "asset.key.curve", present = true }', False),
        ('{ field = "asset.key.curve", present = false }', True),
        ('{ field = "asset.names", present = true }', False),
        ('{ field = "asset.subject", matches = "CN=*.example.com" }', True),
        ('{ field = "asset.subject", matches = "cn=*" }', False),
        ('{ field = "asset.is_ca", eq = false }', True),
        ('{ field = "where.package.name", eq = "openssl" }', None),
        ('{ field = "key", matches = "/etc/*" }', True),
        ('{ not = { field = "asset.key.curve", eq = "secp256r1" } }', None),
        ('{ field = "asset.not_after", after = 2027-01-01 }', True),
        ('{ field = "asset.not_after", before = 2027-01-01 }', False),
        ('{ field = "asset.subject", before = "today" }', None),
    ],
)
def test_operators_on_plain_values(table: AlgorithmTable, toml: str, expected: bool | None) -> None:
    """Each operator's yes and no; and unknown for what the document does not state."""
    assert holds(toml, table, where=Location(path="/etc/x"), key="/etc/x") is expected


def test_a_list_is_asked_for_its_words(table: AlgorithmTable) -> None:
    """Lists of algorithms and names are judged by what is in them."""
    listed = certificate(names=("DNS:a.example", "DNS:b.example"))

    for words, expected in ((["DNS:b.example", "DNS:z"], True), (["DNS:z"], False)):
        toml = f'{{ field = "asset.names", contains_any = {words} }}'
        assert holds(toml, table, asset=listed) is expected


@pytest.mark.parametrize(
    ("toml", "asset", "expected"),
    [
        ('{ field = "asset.key", strength_lt = 112 }', certificate(key=rsa(1024)), True),
        ('{ field = "asset.key", strength_lt = 112 }', certificate(key=rsa(2048)), False),
        ('{ field = "asset.key", strength_lt = 112 }', certificate(key=rsa(None)), None),
        ('{ field = "asset.key", strength_lt = 112 }', certificate(key=ec("secp192r1")), True),
        ('{ field = "asset.key", strength_lt = 112 }', certificate(key=ec("mystery")), None),
        ('{ field = "asset.key", algorithm_in = ["EC"] }', certificate(key=ec("secp256r1")), True),
        ('{ field = "asset.key", algorithm_in = ["EC"] }', certificate(), False),
        ('{ field = "asset.key", quantum_vulnerable = true }', certificate(), True),
        ('{ field = "asset.signature", hash_broken = true }', certificate(signature=SHA1_RSA), True),
        ('{ field = "asset.signature", hash_broken = true }', certificate(), False),
        ('{ field = "asset.signature", hash_broken = true }', certificate(signature=signed("1.2.3")), None),
        (
            '{ field = "asset.signature", hash_broken = true }',
            certificate(signature=signed("1.3.101.112")),
            False,
        ),
        # PSS names its hash in parameters; where the document does not tell them, nobody knows.
        (
            '{ field = "asset.signature", hash_broken = true }',
            certificate(signature=signed("1.2.840.113549.1.1.10")),
            None,
        ),
        (
            '{ field = "asset.signature", hash_broken = true }',
            certificate(signature=signed("1.2.840.113549.1.1.10", hash_name="SHA-1")),
            True,
        ),
        (
            '{ field = "asset.signature", hash_broken = true }',
            certificate(signature=signed("1.2.840.113549.1.1.10", hash_name="WHIRLPOOL")),
            None,
        ),
    ],
)
def test_operators_that_ask_the_algorithm_table(
    table: AlgorithmTable, toml: str, asset: Certificate, expected: bool | None
) -> None:
    """What the table does not know is unknown."""
    assert holds(toml, table, asset=asset) is expected


moments = st.datetimes(
    min_value=dt.datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)
tests_on_moments = st.one_of(
    st.just('before = "today"'),
    st.just('after = "today"'),
    st.integers(0, operators.DAYS_MAX).map(lambda days: f"within_days = {days}"),
)


@given(moments, tests_on_moments, st.data())
def test_between_two_boundaries_a_test_on_a_moment_does_not_change(
    moment: dt.datetime, test: str, data: st.DataObject
) -> None:
    """The cache stands on this: a verdict that changed between boundaries would be served stale."""
    table = algorithms.shipped()
    # Given a test on a moment, and its boundaries
    condition = read(f'{{ field = "asset.not_after", {test} }}', table)
    roots = {"asset": certificate(not_after=timestamp_of(moment))}
    boundaries = sorted(condition.boundaries(roots))
    # When it is asked twice between the same two of them, in whole seconds near the moment or anywhere
    near = [moment, *boundaries]
    offsets = st.integers(-3, 3).map(lambda seconds: dt.timedelta(seconds=seconds))
    anywhere = st.one_of(moments, st.sampled_from(near))
    one = operators.whole_second(_shifted(data.draw(anywhere), data.draw(offsets)))
    other = operators.whole_second(_shifted(data.draw(anywhere), data.draw(offsets)))
    between = [one < boundary <= other or other < boundary <= one for boundary in boundaries]
    # Then the answers are the same
    if not any(between):
        assert condition.answer(roots, one).truth is condition.answer(roots, other).truth


def _shifted(moment: dt.datetime, offset: dt.timedelta) -> dt.datetime:
    try:
        return moment + offset
    except OverflowError:
        return moment


def test_a_certificate_is_valid_during_the_whole_second_of_its_end(table: AlgorithmTable) -> None:
    """RFC 5280: the period includes notAfter. A day less or a second more would be our invention."""
    ended = certificate(not_after="2026-11-20T00:00:00.000000Z")
    expired = '{ field = "asset.not_after", before = "today" }'
    end = day("2026-11-20")

    assert holds(expired, table, at=end, asset=ended) is False
    assert holds(expired, table, at=end + dt.timedelta(seconds=1), asset=ended) is True


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('{ field = "asset.not_after", befor = "today" }', "befor: no such operator; did you mean 'before'"),
        ('{ field = "asset.not_afer", before = "today" }', "no field 'not_afer'.*did you mean 'not_after'"),
        ('{ field = "aset.not_after", before = "today" }', "begins with 'aset'; did you mean 'asset'"),
        ('{ field = "asset.key.bits.x", lt = 1 }', "int has no field 'x'"),
        ('{ field = "asset.key.bits", lt = "2048" }', "lt must be int"),
        ('{ field = "asset.key.bits", lt = true }', "lt must be int"),
        ('{ field = "asset.subject", lt = 3 }', "lt asks for int; asset.subject is str"),
        ('{ field = "asset.key", eq = "RSA" }', "eq asks for bool or int or str"),
        ('{ field = "asset.signature", strength_lt = 112 }', "strength_lt asks for PublicKey"),
        ('{ field = "asset.key", strength_lt = -1 }', "at least 0"),
        ('{ field = "asset.key", algorithm_in = ["RAS"] }', "'RAS', which is no name or family"),
        ('{ field = "asset.not_after", before = "tomorrow" }', "before must be"),
        ('{ field = "asset.not_after", within_days = 9999999 }', "at most"),
        ('{ field = "asset.key.algorithm", in = [] }', "list of at least one"),
        ('{ field = "asset.key.algorithm", in = [1] }', "list of at least one"),
        ('{ field = "asset.subject", matches = "" }', "pattern"),
        ('{ field = "asset.names", present = 1 }', "true or false"),
        ('{ field = "asset.subject" }', "names 'asset.subject' but no operator"),
        ("{ field = 3, eq = 3 }", "path such as"),
        ('{ anny = [{ field = "asset.is_ca", eq = true }] }', "did you mean 'any'"),
        ("{ all = [] }", "all must be a list"),
        ("{ all = [{ any = [{}] }] }", r"all\[0\].any\[0\] must be a table"),
        ('{ not = { field = "asset.is_ca", eq = 1 } }', "not.eq must be bool"),
        ('{ all = [{ field = "asset.is_ca", eq = true }], any = [] }', "only one may stand there"),
        ("{}", "must be a table"),
    ],
)
def test_a_condition_that_means_nothing_is_refused_with_the_place(
    table: AlgorithmTable, toml: str, says: str
) -> None:
    """A typo that is ignored is a rule that passes everything."""
    with pytest.raises(ConditionError, match=says):
        read(toml, table)


def test_a_field_must_exist_in_every_kind_a_rule_speaks_of(table: AlgorithmTable) -> None:
    """Else the rule would be unknown for half of what it names, for a reason nobody reads."""
    both: RootTypes = {"asset": (Library, TrustStore)}

    with pytest.raises(ConditionError, match="TrustStore has no field 'version'"):
        read('{ field = "asset.version", present = true }', table, both)


def test_an_answer_names_what_decided_it(table: AlgorithmTable) -> None:
    """Every finding must be traced to a fact."""
    condition = read(
        '{ any = [{ field = "asset.key", strength_lt = 112 }, { field = "asset.is_ca", eq = true }] }', table
    )

    answer = condition.answer({"asset": certificate(key=rsa(1024))}, NOW)

    assert answer.because == ("asset.key is RSA 1024: at most 80 bits of strength",)


def test_a_library_has_no_field_it_does_not_state(table: AlgorithmTable) -> None:
    """Absent means the source does not say; it never means a default."""
    silent = library(version="3.0.15", soname=None)

    condition = read('{ field = "asset.soname", eq = "libcrypto.so.3" }', table, {"asset": (Library,)})

    assert condition.answer({"asset": silent}, NOW) == Answer(None, ("asset.soname is not stated",))
