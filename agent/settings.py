# SPDX-License-Identifier: Apache-2.0
"""What can an operator set? Names, types, limits and defaults; `agent.config` finds the values."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from agent.model import limits
from agent.secret import Secret
from agent.state import PATH_DEFAULT

# Label names go into documents as keys, and a document's keys are ASCII.
_Label = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,62}$")]
_LabelValue = Annotated[str, Meta(max_length=255)]
_Path = Annotated[str, Meta(pattern="^/")]


class Collector(Struct, frozen=True, kw_only=True):
    """[collector]: where the collector is, how it is known, and the way there."""

    url: str | None = None
    """https://HOST[:PORT]. Needed to enrol; afterwards the enrolment remembers it."""
    pin: str | None = None
    """The CA's pin, as `fleet serve --init` prints it."""
    ca_file: _Path | None = None
    """The CA in PEM, instead of the pin or besides it."""
    token_file: str | None = None
    """Where the enrolment token is; `-` is standard input."""
    proxy: Secret | None = None
    """http://[NAME:PASSWORD@]HOST:PORT. None: straight, whatever the environment's HTTPS_PROXY says."""
    timeout_s: Annotated[int, Meta(ge=1, le=600)] = 30
    """For connecting, and for each read and write."""


class Budget(Struct, frozen=True, kw_only=True):
    """[budget]: what one look at the host may take. A scanner that needs more fails with that reason."""

    time_s: Annotated[int, Meta(ge=1, le=86_400)] = 900
    """For all scanners together. A server with a thousand processes takes seconds; this is for a sick one."""
    scanner_time_s: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """For one of them."""
    memory_mib: Annotated[int, Meta(ge=128, le=65_536)] = 512
    """For the process that scans; it begins with about 50."""


class Settings(Struct, frozen=True, kw_only=True):
    """The top of the file. What a setting is for stands below it."""

    state_dir: _Path = PATH_DEFAULT
    """Where the agent keeps key, enrolment and spool."""
    labels: Annotated[dict[_Label, _LabelValue], Meta(max_length=limits.LABELS_MAX)] = {}
    """The operator's own words about this host; they are posted."""
    scanners: tuple[str, ...] | None = None
    """The scanners to run; None: those that run by default."""
    sinks: tuple[str, ...] = ("https",)
    """Where inventories go."""
    collector: Collector = Collector()
    window_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """Seconds for which `run` also watches the kernel, in each round; 0 for not at all."""
    budget: Budget = Budget()
