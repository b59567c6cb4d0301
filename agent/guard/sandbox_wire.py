# SPDX-License-Identifier: Apache-2.0
"""In which words do a sandbox and its child talk? Types on the way in, types and limits on the way back.

A question is one function's name, its arguments, and open files by descriptor; the answers follow in order,
as each file is done, so that whoever waits knows at which file the other one died. A child that hostile bytes
have taken over can say what the function's return annotation allows, and nothing else.

Each message is its length (32 bits, little-endian) and so many bytes; an answer's first byte tells its kind.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from struct import Struct as Layout
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from agent import errors

# Descriptors in one message; the kernel takes 253 (SCM_MAX_FD, unix(7)), and the parent holds them all open.
FILES_MAX = 64
# One question fits into an empty socket's buffer (212,992 bytes unless the host says otherwise) whatever the
# paths, so that asking never waits.
QUESTION_BYTES_MAX = 64 * 1024
# The largest honest answer, a file of 5,000 certificates, has about 5 MiB.
ANSWER_BYTES_MAX = 8 * 1024 * 1024
LENGTH = Layout("<I")

ANSWER, REFUSAL = b"+", b"-"
_REASON_CHARS_MAX = 300

Reading = Callable[..., object]


class Question(Struct, array_like=True, frozen=True):
    """What is to be done with the files that come beside it."""

    module: str
    function: str
    paths: list[bytes]
    arguments: list[Raw]


class Refusal(Struct, array_like=True, frozen=True):
    """A HostError: its class and its reason. The path is the one that was asked about."""

    error: str
    why: Annotated[str, Meta(max_length=_REASON_CHARS_MAX)]


class Signature(Struct, frozen=True):
    """What a function takes beside the file, and what it gives."""

    arguments: tuple[Any, ...]
    answer: Any


@functools.cache
def signature(function: Reading) -> Signature:
    """The function's types, by its annotations.

    Raises:
        TypeError: it is not a function of a module, or says not what it gives: a mistake of ours.
    """
    module, name = function.__module__, function.__qualname__
    if resolve(module, name) is not function:
        raise TypeError(f"{module}:{name} is no function of a module")
    hints = typing.get_type_hints(function)
    if "return" not in hints:
        raise TypeError(f"{module}:{name} has no return annotation")
    names = list(inspect.signature(function).parameters)[2:]
    return Signature(tuple(hints.get(name, Any) for name in names), hints["return"])


def resolve(module: str, name: str) -> object:
    """The function of a module that has been imported; None where it is not there. Nothing is imported."""
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


@functools.cache
def known_errors() -> dict[str, type[errors.HostError]]:
    """The leaves that cross, by name."""
    leaves: list[type[errors.HostError]] = [errors.HostError, *errors.HostError.__subclasses__()]
    return {leaf.__name__: leaf for leaf in leaves if leaf.__module__ == errors.__name__}


def refusal(error: errors.HostError) -> Refusal:
    """What crosses of an error."""
    names = known_errors()
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in names)
    why = str(error).removeprefix(f"cannot read {error.path}: ")
    # What has no UTF-8 was no text in the first place.
    return Refusal(name, why.encode("utf-8", "backslashreplace").decode()[:_REASON_CHARS_MAX])


class Call:
    """One function with its arguments, as asked about any number of files."""

    def __init__(self, function: Reading, arguments: Sequence[object]) -> None:
        """See the class.

        Raises:
            TypeError, ValueError: the function or its arguments cannot cross: a mistake of ours.
        """
        self.module, self._name = function.__module__, function.__qualname__
        self._arguments = [Raw(msgspec.msgpack.encode(argument)) for argument in arguments]
        self._decoder = msgspec.msgpack.Decoder[object](signature(function).answer)
        spent = len(msgspec.msgpack.encode(Question(self.module, self._name, [], self._arguments)))
        self._room = QUESTION_BYTES_MAX - spent - 64
        if self._room < 2 * 4096:
            raise ValueError(f"the arguments of {self.module}:{self._name} are too long")

    def question(self, paths: Sequence[bytes]) -> tuple[bytes, int]:
        """The message about the first of these files, and about how many it is: FILES_MAX, or what fits."""
        count = spent = 0
        for path in paths[:FILES_MAX]:
            # A file opened through /proc has a path of no more than two whole ones.
            spent += len(path) + 5
            if spent > self._room and count:
                break
            count += 1
        asked = Question(self.module, self._name, list(paths[:count]), self._arguments)
        body = msgspec.msgpack.encode(asked)
        return LENGTH.pack(len(body)) + body, count

    def answer(self, body: bytearray, path: str) -> object:
        """What a message means for a file: the function's answer, or the HostError it raised.

        Raises:
            ValueError: it is neither.
        """
        kind = bytes(body[:1])
        try:
            if kind == ANSWER:
                return self._decoder.decode(body[1:])
            if kind != REFUSAL:
                raise ValueError("neither answer nor refusal")
            refused = msgspec.msgpack.decode(body[1:], type=Refusal)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not of the type that was asked for: {error}") from error
        leaf = known_errors().get(refused.error)
        if leaf is None:
            raise ValueError("a refusal of no kind")
        return leaf(path, refused.why)
