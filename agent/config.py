# SPDX-License-Identifier: Apache-2.0
"""What did the operator ask for? The first of flags, environment, agent.toml and defaults that says it.

Every setting has one dotted name: `collector.url` in the file's table [collector],
CRYPTOFLEET_AGENT_COLLECTOR_URL in the environment. A sink's own settings are `sink.NAME.*`. A name that is
not known is refused, for a setting with a typing error in it would otherwise do nothing, silently.
"""

from __future__ import annotations

import difflib
import os
import stat
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from agent import discover, errors, scanners
from agent.secret import Secret
from agent.settings import Settings
from agent.words import why

FILE_DEFAULT = "/etc/cryptofleet/agent.toml"
FILE_ENV = "CRYPTOFLEET_CONFIG"
STATE_ENV = "CRYPTOFLEET_STATE"
_PREFIX = "CRYPTOFLEET_AGENT_"
_FILE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Page:
    """The configuration file as it was at one moment."""

    place: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings, checked."""

    settings: Settings
    sinks: Mapping[str, Struct] = field(default_factory=dict)
    """The chosen sinks' own settings, by sink."""


def load(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    path: str | None = None,
    page: Page | None = None,
) -> Config:
    """The configuration.

    Args:
        flags: values by dotted name, as texts or already of their type; None is "not given".
        environ: the environment; None is this process's.
        path: as for `read`.
        page: the file, where it was read before; it is not looked at again then.

    Raises:
        ConfigError: the file cannot be read or trusted, or a setting is unknown or not of its type. It names
            the place and the setting, and no secret.
        UsageError: the command line names a scanner or sink that there is none of.
    """
    environ = os.environ if environ is None else environ
    known = _known()
    values: dict[str, Any] = {}
    given = {name: ("the command line", value) for name, value in (flags or {}).items() if value is not None}
    for source, is_text in (
        (_from_page(page or read(path, environ), known), False),
        (_from_environment(environ, known), True),
        (given, True),
    ):
        for name, (whence, value) in source.items():
            values[name] = _typed(name, value, f"{whence}: {name}", known, is_text=is_text)
    settings: Settings = _build(Settings, "", values)
    types_of = _sink_settings()
    _check_names("scanner", settings.scanners or (), discover.names(scanners), given.get("scanners"))
    _check_names("sink", settings.sinks, list(types_of), given.get("sinks"))
    chosen = {name: _build(types_of[name], f"sink.{name}.", values) for name in settings.sinks}
    return Config(settings=settings, sinks=chosen)


def _check_names(what: str, chosen: Iterable[str], there: Sequence[str], given: object) -> None:
    for name in chosen:
        if name not in there:
            # Who named it on the command line hears of it as of any other word that means nothing there.
            kind = errors.ConfigError if given is None else errors.UsageError
            raise kind(f"there is no {what} {name!r}; there are: {', '.join(there)}")


def _known() -> dict[str, Any]:
    """Every setting's dotted name and type."""
    found = _leaves(Settings, "")
    for name, kind in _sink_settings().items():
        found |= _leaves(kind, f"sink.{name}.")
    return found


def _leaves(kind: type[Struct], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in msgspec.structs.fields(kind):
        if isinstance(setting.type, type) and issubclass(setting.type, Struct):
            found |= _leaves(setting.type, f"{prefix}{setting.name}.")
        else:
            found[prefix + setting.name] = setting.type
    return found


def _sink_settings() -> dict[str, type[Struct]]:
    from agent import sinks

    return {name: module.SPEC.settings for name, module in discover.plugins(sinks).items()}


def read(path: str | None = None, environ: Mapping[str, str] | None = None) -> Page:
    """The configuration file, not yet understood.

    Args:
        path: that a flag named; else the environment's CRYPTOFLEET_CONFIG, else FILE_DEFAULT, which alone may
            be missing.
        environ: the environment; None is this process's.

    Raises:
        ConfigError: it cannot be read or trusted.
    """
    path = path or (os.environ if environ is None else environ).get(FILE_ENV) or None
    place = path or FILE_DEFAULT
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        if path is None:
            return Page(place, b"")
        raise errors.ConfigError(f"there is no configuration file {place}") from error
    except OSError as error:
        raise errors.ConfigError(f"cannot read {place}: {why(error)}") from error
    try:
        found = os.fstat(fd)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev:
            return Page(place, b"")
        if not stat.S_ISREG(found.st_mode):
            raise errors.ConfigError(f"{place} is no file")
        # Who writes this file tells a root process where to write.
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise errors.ConfigError(
                f"{place} has mode {stat.S_IMODE(found.st_mode):04o} and uid {found.st_uid}, so others can"
                f" write to it; chown it to root and chmod it 0644"
            )
        with os.fdopen(fd, "rb", closefd=False) as file:
            return Page(place, file.read(_FILE_BYTES_MAX))
    except OSError as error:
        raise errors.ConfigError(f"cannot read {place}: {why(error)}") from error
    finally:
        os.close(fd)


def _from_page(page: Page, known: Iterable[str]) -> dict[str, tuple[str, object]]:
    import tomllib

    try:
        tables = tomllib.loads(page.data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.ConfigError(f"{page.place} is not TOML: {error}") from error
    found = _flat(tables, "")
    # A table that there is, with nothing in it, says nothing; one that there is not has a typing error in it.
    tables_of = {name.rpartition(".")[0] for name in known} | {name.partition(".")[0] for name in known}
    return {
        name: (page.place, value) for name, value in found.items() if value != {} or name not in tables_of
    }


def _flat(table: Mapping[str, Any], prefix: str) -> dict[str, object]:
    """Values by dotted name. `labels` is a value, though it looks like a table, and so is an empty table."""
    found: dict[str, object] = {}
    for name, value in table.items():
        if isinstance(value, dict) and value and prefix + name != "labels":
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, object]
) -> dict[str, tuple[str, object]]:
    names = {_PREFIX + name.upper().replace(".", "_"): name for name in known}
    del names[_PREFIX + "STATE_DIR"]
    names[STATE_ENV] = "state_dir"
    found: dict[str, tuple[str, object]] = {}
    for variable, text in sorted(environ.items()):
        if variable in names:
            # Empty means not set: it is how a unit file takes a variable back (systemd.exec(5)).
            if text:
                found[names[variable]] = (variable, text)
        elif variable.startswith(_PREFIX):
            raise errors.ConfigError(f"there is no setting {variable}{_suggestion(variable, names)}")
    return found


def _typed(name: str, value: object, place: str, known: Mapping[str, Any], *, is_text: bool) -> object:
    """The value in its type. A file has types of its own; environment and command line have only texts."""
    if name not in known:
        raise errors.ConfigError(f"{place}: there is no such setting{_suggestion(name, known)}")
    kind = known[name]
    plain = _plain(kind)
    if plain is Secret:
        if not isinstance(value, str):
            raise errors.ConfigError(f"{place}: a text is expected")
        return Secret(value)
    if is_text and isinstance(value, str):
        value = _split(plain, value, place)
    try:
        return msgspec.convert(value, type=kind, strict=not is_text)
    except msgspec.ValidationError as error:
        raise errors.ConfigError(f"{place}: {error}") from error


def _plain(kind: Any) -> Any:  # noqa: ANN401 - any annotation of a setting
    """The type without its limits and without None: `tuple`, `dict`, `str`, ..."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _plain(next(member for member in typing.get_args(kind) if member is not types.NoneType))
    return typing.get_origin(kind) or kind


def _split(plain: object, text: str, place: str) -> object:
    """`a,b` and `name=value,name=value`, as flags and environment write what a file has types for."""
    if plain not in (tuple, dict):
        return text
    words = [word.strip() for word in text.split(",") if word.strip()]
    if plain is tuple:
        return words
    if not all("=" in word for word in words):
        raise errors.ConfigError(f"{place}: write NAME=VALUE,NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in (word.partition("=") for word in words)}


def _suggestion(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"


def _build(kind: type[Struct], prefix: str, values: Mapping[str, object]) -> Any:  # noqa: ANN401 - that type
    given: dict[str, object] = {}
    for setting in msgspec.structs.fields(kind):
        name = prefix + setting.name
        if isinstance(setting.type, type) and issubclass(setting.type, Struct):
            given[setting.name] = _build(setting.type, f"{name}.", values)
        elif name in values:
            given[setting.name] = values[name]
        elif setting.required:
            raise errors.ConfigError(f"{name} is not set, and it has no default")
    return kind(**given)
