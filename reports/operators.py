# SPDX-License-Identifier: Apache-2.0
"""Which tests can a condition make on one field? What each accepts, answers, and when that changes.

    eq, in                   equal to the operand; to one of it
    lt, le, gt, ge           less, at most, more, at least (whole numbers)
    matches                  the whole text matches a pattern of `*`, `?` and `[...]`, case counting
    contains_any             a list holds at least one of the operand's words
    present                  true: it is stated and not empty; false: it is not
    before, after            a moment is before, after "today" or a date such as 2030-12-31 (its first
                             instant, UTC)
    within_days              a moment is not past and at most so many days of 24 hours ahead of "today"
    strength_lt              a key resists classical attack with less than so many bits
    algorithm_in             a key or signature has one of these names or families in the algorithm table
    quantum_vulnerable       a key or signature would fall to a large quantum computer
    hash_broken              collisions of the hash under a signature are practical

"today" is the evaluation date, cut to the whole second, because X.509 knows no fractions: a certificate whose
notAfter is 12:00:00 is valid during all of that second and past from 12:00:01 on (RFC 5280 section 4.1.2.5).

The last four ask the algorithm table; what has no row there, or no figure, is None: unknown.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.model import canonical
from agent.model.asset import PublicKey, SignatureAlgorithm
from reports.algorithms import AlgorithmTable
from reports.text import to_second

SECOND = dt.timedelta(seconds=1)
TODAY = "today"
# The first and the last second that datetime can name; a certificate that "never expires" ends in the last
# one (RFC 5280 section 4.1.2.5), after which nothing can come.
_FIRST = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
_LAST = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
# A century: longer spans in a policy are slips of the pen.
DAYS_MAX = 36_525


class Answer(NamedTuple):
    """Yes, no or None (cannot be told), with the facts that decided it."""

    truth: bool | None
    because: tuple[str, ...] = ()


Operand = Any
Test = Callable[[str, Any, Operand, dt.datetime, AlgorithmTable], Answer]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One test.

    Attributes:
        accepts: types of field it can be asked of; empty means any.
        operand: checks and converts what the policy wrote; raises ValueError with the rest of a sentence.
        test: path, value, operand, evaluation date (whole seconds), table -> answer.
        boundaries: value, operand -> moments from which on the answer may be another.
        takes_nothing: whether it also answers for a field that is not stated.
    """

    accepts: tuple[type, ...]
    operand: Callable[[object, object, AlgorithmTable], Operand]
    test: Test
    boundaries: Callable[[Any, Operand], Iterable[dt.datetime]] = lambda _value, _operand: ()
    takes_nothing: bool = False


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return to_second(str(value))


def _fact(path: str, value: object, *, truth: bool) -> Answer:
    return Answer(truth=truth, because=(f"{path} is {_shown(value)}",))


# -- operands ------------------------------------------------------------------------------------------------


def _same_type(raw: object, leaf: object, _table: AlgorithmTable) -> object:
    if type(raw) is not leaf:
        raise ValueError(f"must be {getattr(leaf, '__name__', leaf)}, like the field; it is {raw!r}")
    return raw


def _list_of(raw: object, leaf: object, _table: AlgorithmTable) -> tuple[object, ...]:
    wanted = str if leaf is tuple else leaf
    if not isinstance(raw, list) or not raw or any(type(item) is not wanted for item in raw):
        raise ValueError(
            f"must be a list of at least one {getattr(wanted, '__name__', wanted)}; it is {raw!r}"
        )
    return tuple(raw)


def _count(raw: object, _leaf: object, _table: AlgorithmTable) -> int:
    if type(raw) is not int or raw < 0:
        raise ValueError(f"must be a whole number of at least 0; it is {raw!r}")
    return raw


def _days(raw: object, leaf: object, table: AlgorithmTable) -> int:
    days = _count(raw, leaf, table)
    if days > DAYS_MAX:
        raise ValueError(f"must be at most {DAYS_MAX} days; it is {days}")
    return days


def _pattern(raw: object, _leaf: object, _table: AlgorithmTable) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError(f'must be a pattern such as "*.example.com"; it is {raw!r}')
    return raw


def _yes_or_no(raw: object, _leaf: object, _table: AlgorithmTable) -> bool:
    if type(raw) is not bool:
        raise ValueError(f"must be true or false; it is {raw!r}")
    return raw


def _moment(raw: object, _leaf: object, _table: AlgorithmTable) -> dt.datetime | None:
    """None stands for today."""
    if raw == TODAY:
        return None
    if type(raw) is dt.date:
        return dt.datetime(raw.year, raw.month, raw.day, tzinfo=dt.UTC)
    raise ValueError(f'must be "today" or a date such as 2030-12-31, without quotes; it is {raw!r}')


def _algorithms(raw: object, leaf: object, table: AlgorithmTable) -> tuple[str, ...]:
    words = _list_of(raw, str, table)
    known = {name for row in table.rows for name in (row.name, row.family)}
    for word in words:
        if word not in known:
            raise ValueError(f"names {word!r}, which is no name or family of the algorithm table")
    return tuple(str(word) for word in words)


# -- tests on plain values -----------------------------------------------------------------------------------


def _eq(path: str, value: object, operand: object, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=value == operand)


def _in(
    path: str, value: object, operand: tuple[object, ...], _at: dt.datetime, _table: AlgorithmTable
) -> Answer:
    return _fact(path, value, truth=value in operand)


def _lt(path: str, value: int, operand: int, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=value < operand)


def _le(path: str, value: int, operand: int, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=value <= operand)


def _gt(path: str, value: int, operand: int, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=value > operand)


def _ge(path: str, value: int, operand: int, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=value >= operand)


def _matches(path: str, value: str, operand: str, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    return _fact(path, value, truth=fnmatch.fnmatchcase(value, operand))


def _contains_any(
    path: str, value: tuple[str, ...], operand: tuple[str, ...], _at: dt.datetime, _table: AlgorithmTable
) -> Answer:
    common = [word for word in value if word in operand]
    if common:
        return Answer(truth=True, because=(f"{path} has {', '.join(common)}",))
    return Answer(truth=False, because=(f"{path} has none of {', '.join(operand)}",))


def _present(path: str, value: object, operand: Operand, _at: dt.datetime, _table: AlgorithmTable) -> Answer:
    stated = value not in (None, (), "")
    return Answer(stated is operand, (f"{path} is {'stated' if stated else 'not stated'}",))


# -- tests on moments ----------------------------------------------------------------------------------------


def whole_second(moment: dt.datetime) -> dt.datetime:
    """The second that a moment lies in."""
    return moment.replace(microsecond=0)


def _parsed(value: str) -> dt.datetime | None:
    try:
        return canonical.parse_timestamp(value)
    except canonical.MalformedDocumentError:
        return None


def _not_a_moment(path: str, value: str) -> Answer:
    return Answer(None, (f"{path} is {value!r}, which is no moment in time",))


def _from(moment: dt.datetime) -> Iterable[dt.datetime]:
    """The first whole second that is not before a moment, where there is one."""
    return (moment,) if moment.microsecond == 0 else _beyond(moment)


def _beyond(moment: dt.datetime) -> Iterable[dt.datetime]:
    """The first whole second after a moment, where there is one."""
    return () if moment >= _LAST else (whole_second(moment) + SECOND,)


def _before(
    path: str, value: str, operand: dt.datetime | None, at: dt.datetime, _table: AlgorithmTable
) -> Answer:
    moment = _parsed(value)
    return (
        _not_a_moment(path, value) if moment is None else _fact(path, value, truth=moment < (operand or at))
    )


def _before_changes(value: str, operand: dt.datetime | None) -> Iterable[dt.datetime]:
    moment = _parsed(value)
    return () if moment is None or operand is not None else _beyond(moment)


def _after(
    path: str, value: str, operand: dt.datetime | None, at: dt.datetime, _table: AlgorithmTable
) -> Answer:
    moment = _parsed(value)
    return (
        _not_a_moment(path, value) if moment is None else _fact(path, value, truth=moment > (operand or at))
    )


def _after_changes(value: str, operand: dt.datetime | None) -> Iterable[dt.datetime]:
    moment = _parsed(value)
    return () if moment is None or operand is not None else _from(moment)


def _within_days(path: str, value: str, operand: int, at: dt.datetime, _table: AlgorithmTable) -> Answer:
    moment = _parsed(value)
    if moment is None:
        return _not_a_moment(path, value)
    return _fact(path, value, truth=at <= moment and moment - at <= dt.timedelta(days=operand))


def _within_days_changes(value: str, operand: int) -> Iterable[dt.datetime]:
    moment = _parsed(value)
    if moment is None:
        return ()
    lead = dt.timedelta(days=operand)
    starts = _from(moment - lead) if moment - _FIRST > lead else ()
    return (*starts, *_beyond(moment))


# -- tests that ask the algorithm table ----------------------------------------------------------------------


def _strength_lt(
    path: str, value: PublicKey, operand: int, _at: dt.datetime, table: AlgorithmTable
) -> Answer:
    row = table.of_key(value)
    words = table.words_of_key(value)
    if row is None:
        return Answer(None, (f"{path} is {words}, which the algorithm table does not know",))
    return Answer(row.strength_below(operand), (f"{path} is {words}: {row.strength}",))


def _algorithm_in(
    path: str,
    value: PublicKey | SignatureAlgorithm,
    operand: tuple[str, ...],
    _at: dt.datetime,
    table: AlgorithmTable,
) -> Answer:
    row, words = _row(value, table)
    if row is None:
        return Answer(None, (f"{path} is {words}, which the algorithm table does not know",))
    return Answer(row.name in operand or row.family in operand, (f"{path} is {words}",))


def _quantum_vulnerable(
    path: str,
    value: PublicKey | SignatureAlgorithm,
    operand: Operand,
    _at: dt.datetime,
    table: AlgorithmTable,
) -> Answer:
    row, words = _row(value, table)
    if row is None:
        return Answer(None, (f"{path} is {words}, which the algorithm table does not know",))
    verb = "falls" if row.quantum_vulnerable else "does not fall"
    return Answer(
        row.quantum_vulnerable is operand, (f"{path} is {words}, which {verb} to a quantum computer",)
    )


def _hash_broken(
    path: str, value: SignatureAlgorithm, operand: Operand, _at: dt.datetime, table: AlgorithmTable
) -> Answer:
    _, words = _row(value, table)
    name = table.hash_of(value)
    if name is None:
        return Answer(None, (f"{path} is {words}, whose hash is not known",))
    row = table.find("hash", name)
    if row is None or row.broken is None:
        return Answer(
            None,
            (f"{path} is {words} with {name}, which the algorithm table does not judge",),
        )
    verb = "are practical" if row.broken else "are not practical"
    return Answer(row.broken is operand, (f"{path} is {words}; collisions of {row.name} {verb}",))


def _row(value: PublicKey | SignatureAlgorithm, table: AlgorithmTable) -> tuple[Any, str]:
    if isinstance(value, PublicKey):
        return table.of_key(value), table.words_of_key(value)
    row = table.of_signature(value)
    return row, value.name or (row.name if row else value.oid)


OPERATORS: dict[str, Operator] = {
    "eq": Operator(accepts=(str, int, bool), operand=_same_type, test=_eq),
    "in": Operator(accepts=(str, int), operand=_list_of, test=_in),
    "lt": Operator(accepts=(int,), operand=_same_type, test=_lt),
    "le": Operator(accepts=(int,), operand=_same_type, test=_le),
    "gt": Operator(accepts=(int,), operand=_same_type, test=_gt),
    "ge": Operator(accepts=(int,), operand=_same_type, test=_ge),
    "matches": Operator(accepts=(str,), operand=_pattern, test=_matches),
    "contains_any": Operator(accepts=(tuple,), operand=_list_of, test=_contains_any),
    "present": Operator(accepts=(), operand=_yes_or_no, test=_present, takes_nothing=True),
    "before": Operator(accepts=(str,), operand=_moment, test=_before, boundaries=_before_changes),
    "after": Operator(accepts=(str,), operand=_moment, test=_after, boundaries=_after_changes),
    "within_days": Operator(
        accepts=(str,), operand=_days, test=_within_days, boundaries=_within_days_changes
    ),
    "strength_lt": Operator(accepts=(PublicKey,), operand=_count, test=_strength_lt),
    "algorithm_in": Operator(
        accepts=(PublicKey, SignatureAlgorithm), operand=_algorithms, test=_algorithm_in
    ),
    "quantum_vulnerable": Operator(
        accepts=(PublicKey, SignatureAlgorithm), operand=_yes_or_no, test=_quantum_vulnerable
    ),
    "hash_broken": Operator(accepts=(SignatureAlgorithm,), operand=_yes_or_no, test=_hash_broken),
}
