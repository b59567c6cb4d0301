# SPDX-License-Identifier: Apache-2.0
"""When does a condition of a policy hold? Its grammar, and an answer with its reason and its moments.

A condition is a TOML table of one of these forms:

    { all = [ CONDITION, ... ] }      every one holds
    { any = [ CONDITION, ... ] }      at least one holds
    { not = CONDITION }               it does not hold
    { field = "PATH", OPERATOR = OPERAND, ... }      the field passes every operator of `reports.operators`
                                                     named

A path begins with `asset`, at the levels entry and above also with `where` or `key`: `asset.key.bits`,
`where.package.name`.

Answers are three-valued (Kleene): yes, no, and None, "cannot be told". A field the document does not state
makes a test None, so silence never passes and never fails by itself. An answer is piecewise constant in time;
`boundaries` are the moments at which it can change, and at a boundary the new answer already holds.
"""

from __future__ import annotations

import datetime as dt
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec

from reports import operators
from reports.algorithms import AlgorithmTable
from reports.operators import Answer, Operator

Roots = Mapping[str, object]
"""What a path begins with, and the value there: asset, where, key."""
RootTypes = Mapping[str, tuple[object, ...]]
"""The types a root can have, for checking paths before there is a document."""


class ConditionError(ValueError):
    """A condition that means nothing. The message says where in it and what to write instead."""


class Condition(Protocol):
    """What the forms have in common."""

    def answer(self, roots: Roots, at: dt.datetime) -> Answer:
        """Whether it holds at a moment, and why."""
        ...

    def boundaries(self, roots: Roots) -> Iterable[dt.datetime]:
        """The moments at which the answer can change."""
        ...


@dataclass(frozen=True)
class All:
    """Every part holds."""

    parts: tuple[Condition, ...]

    def answer(self, roots: Roots, at: dt.datetime) -> Answer:
        """No as soon as one part is no; None when none is no and one is None."""
        return _joined([part.answer(roots, at) for part in self.parts], decisive=False)

    def boundaries(self, roots: Roots) -> Iterable[dt.datetime]:
        """Those of every part."""
        return (moment for part in self.parts for moment in part.boundaries(roots))


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def answer(self, roots: Roots, at: dt.datetime) -> Answer:
        """Yes as soon as one part is yes; None when none is yes and one is None."""
        return _joined([part.answer(roots, at) for part in self.parts], decisive=True)

    def boundaries(self, roots: Roots) -> Iterable[dt.datetime]:
        """Those of every part."""
        return (moment for part in self.parts for moment in part.boundaries(roots))


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Condition

    def answer(self, roots: Roots, at: dt.datetime) -> Answer:
        """Yes and no change places; None stays."""
        found = self.part.answer(roots, at)
        return Answer(None if found.truth is None else not found.truth, found.because)

    def boundaries(self, roots: Roots) -> Iterable[dt.datetime]:
        """Those of the part."""
        return self.part.boundaries(roots)


@dataclass(frozen=True)
class Test:
    """One field passes one operator."""

    path: str
    operator: Operator
    operand: Any
    table: AlgorithmTable

    def answer(self, roots: Roots, at: dt.datetime) -> Answer:
        """The operator's answer for the value of the field."""
        value = _value(roots, self.path)
        if value is None and not self.operator.takes_nothing:
            return Answer(None, (f"{self.path} is not stated",))
        return self.operator.test(self.path, value, self.operand, at, self.table)

    def boundaries(self, roots: Roots) -> Iterable[dt.datetime]:
        """The operator's, for the value of the field."""
        value = _value(roots, self.path)
        return () if value is None else self.operator.boundaries(value, self.operand)


def _joined(answers: list[Answer], *, decisive: bool) -> Answer:
    for truth in (decisive, None, not decisive):
        because = tuple(
            dict.fromkeys(why for answer in answers if answer.truth is truth for why in answer.because)
        )
        if any(answer.truth is truth for answer in answers):
            return Answer(truth, because)
    raise AssertionError("the parser admits no empty list")


def _value(roots: Roots, path: str) -> object:
    root, *rest = path.split(".")
    value: object = roots[root]
    for name in rest:
        if value is None:
            return None
        value = getattr(value, name)
    return value


def parse(raw: object, types_of: RootTypes, table: AlgorithmTable) -> Condition:
    """Read a condition and check every word of it.

    Args:
        raw: the TOML table.
        types_of: what paths may begin with. A path must exist in every type that stands at a root.
        table: what the operators on algorithms ask.

    Raises:
        ConditionError: an unknown operator, a field that does not exist, an operand of the wrong kind.
    """
    return _parse(raw, types_of, table, "")


def _parse(raw: object, types_of: RootTypes, table: AlgorithmTable, at: str) -> Condition:
    if not isinstance(raw, dict) or not raw:
        raise ConditionError(f"{at or 'a condition'} must be a table such as {{ field = ..., eq = ... }}")
    if "field" in raw:
        return _parse_test(raw, types_of, table, at)
    word, inner = next(iter(raw.items()))
    if word not in {"all", "any", "not"}:
        raise ConditionError(
            f"{at or 'a condition'} begins with {word!r}{suggestion(word, ('all', 'any', 'not', 'field'))}"
        )
    if len(raw) > 1:
        raise ConditionError(
            f"{at or 'a condition'} has {word!r} beside {sorted(set(raw) - {word})}; only one may stand there"
        )
    here = f"{at}.{word}" if at else word
    if word == "not":
        return Not(_parse(inner, types_of, table, here))
    if not isinstance(inner, list) or not inner:
        raise ConditionError(f"{here} must be a list of at least one condition")
    parts = tuple(_parse(part, types_of, table, f"{here}[{index}]") for index, part in enumerate(inner))
    return All(parts) if word == "all" else AnyOf(parts)


def _parse_test(raw: dict[str, object], types_of: RootTypes, table: AlgorithmTable, at: str) -> Condition:
    path = raw["field"]
    if not isinstance(path, str):
        raise ConditionError(f'{_at(at, "field")} must be a path such as "asset.not_after"')
    leaf = _leaf_type(path, types_of, _at(at, "field"))
    names = [name for name in raw if name != "field"]
    if not names:
        raise ConditionError(
            f"{at or 'the condition'} names {path!r} but no operator; it may be {sorted(operators.OPERATORS)}"
        )
    tests: list[Condition] = []
    for name in names:
        operator = operators.OPERATORS.get(name)
        if operator is None:
            raise ConditionError(f"{_at(at, name)}: no such operator{suggestion(name, operators.OPERATORS)}")
        if operator.accepts and leaf not in operator.accepts:
            wanted = " or ".join(sorted(kind.__name__ for kind in operator.accepts))
            raise ConditionError(f"{_at(at, name)} asks for {wanted}; {path} is {_type_name(leaf)}")
        try:
            operand = operator.operand(raw[name], leaf, table)
        except ValueError as error:
            raise ConditionError(f"{_at(at, name)} {error}") from error
        tests.append(Test(path, operator, operand, table))
    return tests[0] if len(tests) == 1 else All(tuple(tests))


def _leaf_type(path: str, types_of: RootTypes, at: str) -> object:
    root, *rest = path.split(".")
    if root not in types_of:
        raise ConditionError(f"{at}: {path!r} begins with {root!r}{suggestion(root, types_of)}")
    found: list[object] = []
    for kind in types_of[root]:
        leaf = kind
        for name in rest:
            fields = _fields(leaf)
            if name not in fields:
                raise ConditionError(
                    f"{at}: {_type_name(leaf)} has no field {name!r} (in {path!r}){suggestion(name, fields)}"
                )
            leaf = _bare(fields[name])
        if leaf not in found:
            found.append(leaf)
    if len(found) > 1:
        names = ", ".join(sorted(_type_name(leaf) for leaf in found))
        raise ConditionError(f"{at}: {path!r} is not one type but {names}; write one rule for each kind")
    return found[0]


def _fields(kind: object) -> dict[str, object]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.name: field.type for field in msgspec.structs.fields(kind)}
    return {}


def _bare(annotation: object) -> object:
    """The type itself, without Annotated and without None; `tuple` for any tuple."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in {types.UnionType, typing.Union}:
        rest = [_bare(part) for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return origin or annotation


def _type_name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _at(at: str, word: str) -> str:
    return f"{at}.{word}" if at else word


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when one of the known words is near, else the list of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; it must be one of {words}"
