# SPDX-License-Identifier: Apache-2.0
"""How does a process that may do nothing answer? It is handed open files, and calls a function on each.

It is forked from the agent and never executes anything: all that it needs is in its memory already, also
where the agent is one file that unpacked itself. A function that fails costs its file; one that ends the
process costs its file too, because whoever waits starts another process for the rest.
"""

from __future__ import annotations

import array
import gc
import os
import socket
import traceback
from collections.abc import Callable
from typing import NoReturn

import msgspec

from agent import errors
from agent.guard import confine, sandbox_wire
from agent.guard.sandbox_wire import ANSWER, ANSWER_BYTES_MAX, FILES_MAX, LENGTH, REFUSAL, Question

_ENCODER = msgspec.msgpack.Encoder()
_DESCRIPTOR_BYTES = array.array("i").itemsize
# What the buffer of answers may keep between two of them.
_KEPT_BYTES_MAX = 64 * 1024


def serve(socket_fd: int, parent: int) -> NoReturn:
    """Be confined, tell how, and answer until the other end is closed. For a new child; it never returns."""
    status = 1
    try:
        # What was inherited is never looked through, so its pages stay shared; nor is it ever ended, which
        # would close numbers that mean other files here.
        gc.freeze()
        layers = confine.confine(socket_fd, FILES_MAX, parent)
        # All three are given, because the kernel cannot be asked for them any more.
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=confine.SOCKET_FD)
        body = _ENCODER.encode(layers)
        channel.sendall(LENGTH.pack(len(body)) + body)
        while _answer(channel):
            pass
        status = 0
    finally:
        # Nothing of the parent's may run here: no handler at exit, no buffer written out a second time.
        os._exit(status)


def _answer(channel: socket.socket) -> bool:
    """One question; False when there are no more."""
    message, descriptors = _receive(channel)
    if not message:
        return False
    asked = msgspec.msgpack.decode(message, type=Question)
    function = sandbox_wire.resolve(asked.module, asked.function)
    if len(descriptors) != len(asked.paths) or not callable(function):
        raise ValueError("a question that cannot be answered")
    types = sandbox_wire.signature(function).arguments
    arguments = [
        msgspec.msgpack.decode(raw, type=kind) for raw, kind in zip(asked.arguments, types, strict=False)
    ]
    buffer = bytearray()
    for fd, path in zip(descriptors, map(os.fsdecode, asked.paths), strict=True):
        _fill(buffer, function, fd, path, arguments)
        os.close(fd)
        LENGTH.pack_into(buffer, 0, len(buffer) - LENGTH.size)
        channel.sendall(buffer)
        if len(buffer) > _KEPT_BYTES_MAX:
            buffer = bytearray()
    return True


def _fill(
    buffer: bytearray,
    function: Callable[..., object],
    fd: int,
    path: str,
    arguments: list[object],
) -> None:
    """Room for the length, the kind, and what the function says of one file."""
    del buffer[LENGTH.size :]
    buffer[:] = bytes(LENGTH.size) + ANSWER
    error: errors.HostError
    try:
        _ENCODER.encode_into(function(fd, path, *arguments), buffer, LENGTH.size + 1)
        if len(buffer) - LENGTH.size <= ANSWER_BYTES_MAX:
            return
        error = errors.TooLargeError(path, f"what it says has more than {ANSWER_BYTES_MAX} bytes")
    except errors.HostError as refused:
        error = refused
    except MemoryError:
        error = errors.CrashedError(path, "out of memory")
    except Exception as bug:  # noqa: BLE001 - the one place where a bug of a reader becomes its file's failure
        error = errors.CrashedError(path, _bug(bug))
    buffer[:] = bytes(LENGTH.size) + REFUSAL
    _ENCODER.encode_into(sandbox_wire.refusal(error), buffer, LENGTH.size + 1)


def _bug(error: Exception) -> str:
    """Type and place. The message is left out: it may quote the file, and the file may be a secret."""
    # Walked and not extracted, which would look for the source.
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = f" at {os.path.basename(frame.f_code.co_filename)}:{line}"
    return f"bug in its reader: {type(error).__name__}{place}; please report it"


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """One whole message and the descriptors beside it; empty at the end."""
    message = bytearray()
    descriptors: list[int] = []
    missing = LENGTH.size
    while missing:
        room = socket.CMSG_SPACE(FILES_MAX * _DESCRIPTOR_BYTES)
        # No more than this message: the next one's descriptors would come with it.
        data, ancillary, _, _ = channel.recvmsg(missing, room)
        if not data:
            return b"", []
        for _level, _kind, content in ancillary:
            received = array.array("i")
            received.frombytes(content)
            descriptors.extend(received)
        message += data
        if len(message) == LENGTH.size:
            missing = LENGTH.unpack(message)[0]
        else:
            missing -= len(data)
    return bytes(message[LENGTH.size :]), descriptors
