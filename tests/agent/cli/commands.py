# SPDX-License-Identifier: Apache-2.0
"""The agent as users run it: a process of its own, of which nothing but its answer is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AGENT = (sys.executable, "-m", "agent")
# One that nothing of the machine's own configuration reaches, and that reaches nothing of it.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    "PYTHONDONTWRITEBYTECODE": "1",
    "CRYPTOFLEET_CONFIG": os.devnull,
    "CRYPTOFLEET_STATE": "/nonexistent/state",
}
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
# Pids of its own, so that what other programs of this machine do is out of sight.
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

Done = subprocess.CompletedProcess[bytes]


def run(
    *words: str | bytes | Path,
    prefix: tuple[str | Path, ...] = (),
    agent: tuple[str | Path, ...] = AGENT,
    env: dict[str, str] | None = None,
    **options: Any,  # noqa: ANN401 - those of subprocess.run
) -> Done:
    """One command, to its end."""
    given: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    own_lock = {name: place for name, place in os.environ.items() if name == "CRYPTOFLEET_RUN"}
    given |= {"timeout": 120, "env": ENVIRONMENT | own_lock | (env or {})} | options
    done: Done = subprocess.run([*prefix, *agent, *words], check=False, **given)
    return done


def snapshot(*words: str | bytes | Path, code: int = 0, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - run's
    """The document that `snapshot` prints."""
    done = run("snapshot", *words, **options)
    assert done.returncode == code, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def said(done: Done) -> list[str]:
    """Its words on standard error; a traceback is none."""
    words = done.stderr.decode()
    assert "Traceback" not in words, words
    assert "Exception ignored" not in words, words
    return words.splitlines()


def may_be_nobody() -> None:
    """Skip where another user cannot run this checkout, or nobody can become another user."""
    if shutil.which(AS_NOBODY[0]) is None:
        pytest.skip("setpriv is not installed")
    done = run("version", prefix=AS_NOBODY)
    if done.returncode:
        pytest.skip(f"nobody cannot run this checkout: {done.stderr.decode().strip()[-200:]}")


def jq(recipe: str, data: bytes, *options: str) -> str:
    """What the real jq makes of it."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    done = subprocess.run(["jq", *options, recipe], input=data, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
