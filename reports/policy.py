# SPDX-License-Identifier: Apache-2.0
"""What does a policy demand? Policies as TOML text with every word checked: a typo is refused.

A policy file is text that a cryptographer can read and sign: who issued what, since when, then rule after
rule with the place in the issuer's document, the requirement in our own words, and the condition under which
something goes against it. `reports/README.md` describes the fields for authors.
"""

from __future__ import annotations

import datetime as dt
import importlib.resources
import re
import tomllib
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent.model import asset as assets
from agent.model import canonical
from agent.model.location import Location
from reports.algorithms import AlgorithmTable
from reports.condition import Condition, ConditionError, RootTypes, parse, suggestion

# Raised when the judge reads the same policy differently, so that verdicts cached by an older one are not
# believed.
READING = 1

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]*$", max_length=64)]
Level = Literal["asset", "entry"]
Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[str, ...] = typing.get_args(Severity)
Outcome = Literal["fail", "warn"]
Origin = Literal["any", "local", "vendor"]

KINDS: dict[str, type] = {str(kind.__struct_config__.tag): kind for kind in typing.get_args(assets.AnyAsset)}
"""Types of asset by the word that documents use for them."""

# Levels that the design names and no judge of this version has: they need indexes over sections, hosts or the
# fleet.
_LATER_LEVELS = ("section", "host", "fleet")
_AT_RULE = re.compile(r"\$\.rule\[(\d+)\]")


class PolicyError(ValueError):
    """A policy that cannot be judged as it stands. The message names the file, the rule and the word."""


class AppliesTo(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Which entries a rule speaks of."""

    sections: Annotated[tuple[Text, ...], Meta(min_length=1)]
    kinds: Annotated[tuple[Text, ...], Meta(min_length=1)]
    origin: Origin = "any"
    when: dict[str, Any] | None = None


class ExemptionText(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """When a rule does not apply, and why."""

    when: dict[str, Any]
    because: Text


class RuleText(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One rule as it is written."""

    id: Name
    section: Text
    requirement: Text
    level: Level
    severity: Severity
    applies_to: AppliesTo
    condition: dict[str, Any]
    basis: Text
    remediation: Text
    outcome: Outcome = "fail"
    deprecated_from: dt.date | None = None
    disallowed_from: dt.date | None = None
    not_applicable: tuple[ExemptionText, ...] = ()


class PolicyText(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One policy as it is written."""

    name: Name
    title: Text
    issuer: Text
    edition: Text
    source: Text
    last_verified: dt.date
    status: Literal["draft", "final"]
    scope: Text
    rule: Annotated[tuple[RuleText, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Exemption:
    """A reason why a rule does not apply, ready to be asked."""

    when: Condition
    because: str


@dataclass(frozen=True)
class Rule:
    """One rule, ready to be judged."""

    text: RuleText
    when: Condition | None
    condition: Condition
    exemptions: tuple[Exemption, ...]

    @property
    def id(self) -> str:
        """Its name inside its policy."""
        return self.text.id

    def speaks_of(self, section: str, kind: str, origin: str) -> bool:
        """Whether an entry of this section, kind of asset and origin (local or vendor) is meant."""
        to = self.text.applies_to
        return section in to.sections and kind in to.kinds and to.origin in {"any", origin}


@dataclass(frozen=True)
class Policy:
    """One policy, ready to be judged.

    Attributes:
        text: as it was written.
        rules: in the order of the file.
        digest: of everything that decides a verdict: the text, the algorithm table and how both are read.
    """

    text: PolicyText
    rules: tuple[Rule, ...]
    digest: str

    @property
    def name(self) -> str:
        """The word by which people call it."""
        return self.text.name

    @property
    def is_draft(self) -> bool:
        """Whether it is not in force yet; its failures are then warnings."""
        return self.text.status == "draft"


def read(text: str, file: str, table: AlgorithmTable) -> Policy:
    """Read and check a policy.

    Args:
        text: TOML.
        file: what the file is called in messages.
        table: what conditions on algorithms ask.

    Raises:
        PolicyError: what is wrong, in which rule, and the nearest right word where there is one.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{file}: not TOML: {error}") from error
    _check_levels(raw, file)
    try:
        written = msgspec.convert(raw, PolicyText)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{file}: {_named(str(error), raw)}") from error
    twice = next(
        (rule.id for rule in written.rule if sum(other.id == rule.id for other in written.rule) > 1), None
    )
    if twice is not None:
        raise PolicyError(f"{file}: two rules are called {twice!r}; verdicts are kept by that name")
    rules = tuple(_rule(rule, file, table) for rule in written.rule)
    decides = {"reading": READING, "algorithms": table.digest, "policy": msgspec.to_builtins(written)}
    return Policy(text=written, rules=rules, digest=canonical.digest(canonical.encode(decides)))


def _rule(text: RuleText, file: str, table: AlgorithmTable) -> Rule:
    where = f"{file}: rule {text.id}"
    for kind in text.applies_to.kinds:
        if kind not in KINDS:
            raise PolicyError(
                f"{where}: applies_to.kinds: no kind of asset is called {kind!r}{suggestion(kind, KINDS)}"
            )
    if text.deprecated_from and text.disallowed_from and text.deprecated_from >= text.disallowed_from:
        raise PolicyError(f"{where}: deprecated_from must come before disallowed_from")
    if text.outcome == "warn" and (text.deprecated_from or text.disallowed_from):
        raise PolicyError(f"{where}: the deadlines say when it warns and when it fails; leave outcome away")
    types_of = _types_of(text)

    def condition(raw: dict[str, Any], at: str) -> Condition:
        try:
            return parse(raw, types_of, table)
        except ConditionError as error:
            raise PolicyError(f"{where}: {at}: {error}") from error

    return Rule(
        text=text,
        when=condition(text.applies_to.when, "applies_to.when") if text.applies_to.when is not None else None,
        condition=condition(text.condition, "condition"),
        exemptions=tuple(
            Exemption(condition(exemption.when, f"not_applicable[{index}].when"), exemption.because)
            for index, exemption in enumerate(text.not_applicable)
        ),
    )


def _types_of(text: RuleText) -> RootTypes:
    """What paths of a rule may begin with: what its level sees, since that is what the cache is keyed by."""
    asset = tuple(KINDS[kind] for kind in text.applies_to.kinds)
    if text.level == "asset":
        return {"asset": asset}
    return {"asset": asset, "where": (Location,), "key": (str,)}


def _check_levels(raw: dict[str, Any], file: str) -> None:
    for rule in raw["rule"] if isinstance(raw.get("rule"), list) else ():
        if isinstance(rule, dict) and rule.get("level") in _LATER_LEVELS:
            raise PolicyError(
                f"{file}: rule {rule.get('id')}: level {rule['level']!r} cannot be judged by this version; "
                "write it for level asset or entry, or leave the rule out"
            )


def _named(message: str, raw: dict[str, Any]) -> str:
    """The message of msgspec with rules by name, and a guess at the word that was meant."""
    rules = raw.get("rule")
    match = _AT_RULE.search(message)
    if match and isinstance(rules, list) and isinstance(rules[int(match[1])], dict):
        message = f"rule {rules[int(match[1])].get('id', match[1])}: {message}"
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown:
        known = {
            field.name
            for kind in (PolicyText, RuleText, AppliesTo, ExemptionText)
            for field in msgspec.structs.fields(kind)
        }
        message += suggestion(unknown[1], known)
    return message


def shipped_names() -> list[str]:
    """Policies that come with this version, sorted."""
    folder = importlib.resources.files("reports").joinpath("policies")
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def shipped(name: str, table: AlgorithmTable) -> Policy:
    """A policy that comes with this version.

    Raises:
        PolicyError: there is none of that name.
    """
    if name not in shipped_names():
        raise PolicyError(f"no policy is called {name!r}{suggestion(name, shipped_names())}")
    file = importlib.resources.files("reports").joinpath("policies", f"{name}.toml")
    return read(file.read_text(encoding="utf-8"), f"{name}.toml", table)
