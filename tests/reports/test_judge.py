# SPDX-License-Identifier: Apache-2.0
"""Is a verdict the same on every day of its segment, and does the cache know everything that decides it?"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.asset import Certificate
from agent.model.canonical import parse_timestamp, timestamp_of
from reports import algorithms
from reports.algorithms import AlgorithmTable
from reports.judge import Judge, Segment, Timeline, _verdict, at_moment, timeline
from reports.operators import whole_second
from reports.policy import Policy, Rule, read, shipped
from tests.reports.samples import NOW, SHA1_RSA, certificate, day, ec, entry, rsa, signed, use
from tests.reports.test_policy import HEAD, RULE

DEADLINES = """
[[rule]]
id = "rsa"
section = "1"
requirement = "RSA goes."
level = "asset"
severity = "high"
deprecated_from = 2031-01-01
disallowed_from = 2036-01-01
condition = { all = [
    { field = "asset.key", algorithm_in = ["RSA"] },
    { field = "asset.not_after", after = "today" },
] }
basis = "a draft"
remediation = "Move."

[rule.applies_to]
sections = ["certificates"]
kinds = ["certificate"]
when = { field = "asset.is_ca", eq = false }

[[rule.not_applicable]]
when = { field = "asset.not_before", after = "today" }
because = "not in use yet"
"""


def rule_of(policy: Policy, name: str) -> Rule:
    """The rule of that name."""
    return next(rule for rule in policy.rules if rule.id == name)


def judged(policy: Policy, name: str, asset: Certificate) -> Timeline:
    """The timeline of a rule over a certificate."""
    return timeline(rule_of(policy, name), {"asset": asset})


def shape(segments: Timeline) -> list[tuple[str, str | None]]:
    """Verdicts with the moment each begins."""
    return [(segment.verdict, segment.from_date) for segment in segments]


def test_an_expiring_certificate_needs_no_second_scan(hygiene: Policy) -> None:
    """The day it expires is known today."""
    segments = judged(hygiene, "cert-expired", certificate(not_after="2027-12-31T23:59:59.000000Z"))

    assert shape(segments) == [("pass", None), ("fail", "2028-01-01T00:00:00.000000Z")]
    assert segments[0].until_date == "2028-01-01T00:00:00.000000Z"


def test_a_certificate_is_about_to_expire_until_it_has_expired(hygiene: Policy) -> None:
    """Two rules must not report one thing at once, and none may leave a gap."""
    segments = judged(hygiene, "cert-expiring", certificate(not_after="2027-12-31T23:59:59.000000Z"))

    assert shape(segments) == [
        ("pass", None),
        ("warn", "2027-12-01T23:59:59.000000Z"),
        ("not-applicable", "2028-01-01T00:00:00.000000Z"),
    ]


def test_a_certificate_that_never_expires_has_no_last_day(hygiene: Policy) -> None:
    """RFC 5280 writes "no end" as the last second of the year 9999."""
    for_ever = certificate(not_after="9999-12-31T23:59:59.000000Z")

    assert shape(judged(hygiene, "cert-expired", for_ever)) == [("pass", None)]


@pytest.mark.parametrize(
    ("rule", "asset", "expected"),
    [
        ("weak-key", certificate(), "pass"),
        ("weak-key", certificate(key=rsa(1024)), "fail"),
        ("weak-key", certificate(key=rsa(None)), "unknown"),
        ("weak-key", certificate(key=ec("secp192r1")), "fail"),
        ("weak-key", certificate(key=ec("secp256r1")), "pass"),
        ("weak-key", certificate(key=ec("a-new-curve", 256)), "unknown"),
        ("weak-signature", certificate(), "pass"),
        ("weak-signature", certificate(signature=SHA1_RSA), "fail"),
        ("weak-signature", certificate(signature=signed("1.3.6.1.4.1.99999.7")), "unknown"),
        ("weak-signature", certificate(signature=SHA1_RSA, is_ca=True, self_issued=True), "not-applicable"),
        ("weak-signature", certificate(signature=SHA1_RSA, version=1, self_issued=True), "not-applicable"),
        ("weak-signature", certificate(signature=SHA1_RSA, is_ca=True), "fail"),
        ("weak-signature", certificate(signature=SHA1_RSA, self_issued=True), "fail"),
        ("cert-not-yet-valid", certificate(not_before="2026-12-01T00:00:00.000000Z"), "warn"),
        ("cert-not-yet-valid", certificate(), "pass"),
    ],
)
def test_the_rules_of_hygiene(hygiene: Policy, rule: str, asset: Certificate, expected: str) -> None:
    """Each rule on what it is about; what the algorithm table does not know is unknown."""
    assert at_moment(judged(hygiene, rule, asset), NOW).verdict == expected


def test_a_dsa_key_is_weak_at_any_size(hygiene: Policy) -> None:
    """FIPS 186-5 allows no new DSA signature."""
    dsa = certificate(key=type(rsa())(algorithm="DSA", bits=3072, spki_sha256="0" * 64))

    assert at_moment(judged(hygiene, "weak-key", dsa), NOW).verdict == "fail"


def test_a_library_that_was_replaced_under_a_process_is_a_warning(hygiene: Policy) -> None:
    """The process runs the bytes that the update replaced."""
    rule = rule_of(hygiene, "library-deleted-still-mapped")

    for deleted, verdict in ((True, "warn"), (False, "pass")):
        one = entry("/usr/sbin/nginx", use(deleted=deleted), exe="/usr/sbin/nginx")
        segments = timeline(rule, {"asset": one.asset, "where": one.where, "key": one.key})
        assert [segment.verdict for segment in segments] == [verdict]


def test_deadlines_turn_pass_into_warn_and_warn_into_fail(table: AlgorithmTable) -> None:
    """One cache serves today and 2036."""
    policy = read(HEAD + DEADLINES, "house.toml", table)
    long_lived = certificate(
        not_after="2040-01-01T00:00:00.000000Z", not_before="2026-01-01T00:00:00.000000Z"
    )

    segments = judged(policy, "rsa", long_lived)

    assert shape(segments) == [
        ("not-applicable", None),
        ("pass", "2026-01-01T00:00:00.000000Z"),
        ("warn", "2031-01-01T00:00:00.000000Z"),
        ("fail", "2036-01-01T00:00:00.000000Z"),
        ("pass", "2040-01-01T00:00:00.000000Z"),
    ]


def test_an_undecided_exemption_makes_a_failure_unknown_but_not_a_pass(table: AlgorithmTable) -> None:
    """What might be exempt is no failure; what does not go against the rule needs no exemption."""
    exemption = '[[rule.not_applicable]]\nwhen = { field = "asset.key.curve", eq = "x" }\nbecause = "y"\n'
    policy = read(HEAD + RULE + exemption, "house.toml", table)

    assert at_moment(judged(policy, "no-ca", certificate(is_ca=True)), NOW).verdict == "unknown"
    assert at_moment(judged(policy, "no-ca", certificate(is_ca=False)), NOW).verdict == "pass"


moments = st.datetimes(
    min_value=dt.datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    timezones=st.just(dt.UTC),
)
keys = st.sampled_from([rsa(1024), rsa(2048), rsa(None), ec("secp256r1"), ec("strange", 256)])
SHIPPED = shipped("hygiene", algorithms.shipped())
RULES = [*SHIPPED.rules[:-1], *read(HEAD + DEADLINES, "house.toml", algorithms.shipped()).rules]


@st.composite
def certificates(draw: st.DrawFn) -> Certificate:
    """Certificates with any two moments, also in the wrong order."""
    fields: dict[str, Any] = {
        "not_before": timestamp_of(draw(moments)),
        "not_after": timestamp_of(draw(moments)),
        "key": draw(keys),
        "signature": draw(st.sampled_from([SHA1_RSA, signed("1.2.3")])),
        "is_ca": draw(st.booleans()),
        "self_issued": draw(st.booleans()),
    }
    return certificate(**fields)


@given(st.sampled_from(RULES), certificates(), st.data())
def test_a_verdict_holds_on_every_day_of_its_segment(
    rule: Rule, asset: Certificate, data: st.DataObject
) -> None:
    """A cached verdict must be what judging anew would say, on any date anybody may ask for."""
    roots = {"asset": asset}
    # Given the timeline of a rule over a certificate
    segments = timeline(rule, roots)
    edges = [parse_timestamp(segment.from_date) for segment in segments if segment.from_date]
    # When it is asked for any moment, those at its edges above all
    at = data.draw(st.one_of(moments, st.sampled_from(edges) if edges else moments))
    for moment in (at, _before(at)):
        found = at_moment(segments, moment)
        # Then it says what judging on that very day says
        assert (found.verdict, found.because) == _verdict(rule, roots, whole_second(moment))
        assert found.holds_at(timestamp_of(whole_second(moment)))


def _before(moment: dt.datetime) -> dt.datetime:
    try:
        return moment - dt.timedelta(seconds=1)
    except OverflowError:
        return moment


@given(st.sampled_from(RULES), certificates())
def test_a_timeline_has_no_gap_no_overlap_and_no_needless_edge(rule: Rule, asset: Certificate) -> None:
    """Every date has exactly one verdict."""
    segments = timeline(rule, {"asset": asset})

    assert segments[0].from_date is None
    assert segments[-1].until_date is None
    for one, other in itertools.pairwise(segments):
        assert one.until_date == other.from_date
        assert one.until_date is not None
        assert (one.verdict, one.because) != (other.verdict, other.because)
    starts = [segment.from_date for segment in segments if segment.from_date]
    assert starts == sorted(starts)


def test_the_same_thing_is_judged_once(hygiene: Policy) -> None:
    """A thousand hosts share a certificate; it is one verdict."""
    memo: dict[Any, Timeline] = {}
    judge = Judge(memo)
    rule = rule_of(hygiene, "cert-expired")
    here, there = entry("/a", certificate()), entry("/b", certificate())

    first = judge.timeline(hygiene, rule, here, {})

    assert judge.timeline(hygiene, rule, there, {}) is first
    assert len(memo) == 1


def test_the_memo_tells_levels_rules_and_policies_apart(hygiene: Policy, table: AlgorithmTable) -> None:
    """A verdict found under the wrong key would be somebody else's."""
    memo: dict[Any, Timeline] = {}
    judge = Judge(memo)
    other = read(HEAD + RULE.replace("no-ca", "cert-expired"), "house.toml", table)
    one = entry("/a", certificate())

    for policy, name in ((hygiene, "cert-expired"), (hygiene, "weak-key"), (other, "cert-expired")):
        judge.timeline(policy, rule_of(policy, name), one, {})

    assert len(memo) == 3


def test_an_entry_rule_is_judged_in_each_place(table: AlgorithmTable) -> None:
    """The same certificate may stand where it is allowed and where it is not."""
    text = (HEAD + RULE).replace('level = "asset"', 'level = "entry"')
    text = text.replace(
        '{ field = "asset.is_ca", eq = true }', '{ field = "where.path", matches = "/tmp/*" }'
    )
    policy = read(text, "house.toml", table)
    judge = Judge()

    verdicts = [
        judge.timeline(policy, policy.rules[0], entry(path, certificate()), {})[0].verdict
        for path in ("/etc/a.pem", "/tmp/a.pem")
    ]

    assert verdicts == ["pass", "fail"]


def test_a_memo_that_was_kept_is_believed(hygiene: Policy) -> None:
    """The caller may keep verdicts longer than a judge lives."""
    memo: dict[Any, Timeline] = {}
    rule = rule_of(hygiene, "cert-expired")
    one = entry("/a", certificate())
    Judge(memo).timeline(hygiene, rule, one, {})
    (key,) = memo
    memo[key] = (Segment(verdict="unknown"),)

    assert Judge(memo).timeline(hygiene, rule, one, {}) == (Segment(verdict="unknown"),)


def test_the_evaluation_date_is_cut_to_the_second(hygiene: Policy) -> None:
    """Half a second after its end a certificate is still inside its last second."""
    segments = judged(hygiene, "cert-expired", certificate(not_after="2026-11-20T00:00:00.000000Z"))

    assert at_moment(segments, day("2026-11-20") + dt.timedelta(microseconds=500_000)).verdict == "pass"
