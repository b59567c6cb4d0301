# SPDX-License-Identifier: Apache-2.0
"""What the host runs on: operating system, kernel, FIPS mode, and the system-wide crypto policy.

Entries: `os`, `kernel`, `fips`, `crypto-policy`. That a host has no crypto policy or a kernel without FIPS is
an entry too; what could not be read is none.
"""

from __future__ import annotations

import os
import shlex

from agent import errors
from agent.host import Host, text
from agent.model.asset import AnyAsset, CryptoPolicy, FipsMode, Kernel, OperatingSystem
from agent.model.inventory import Entry
from agent.model.location import Location
from agent.scanners import Scan, Spec

# os-release(5): the first of these that is there.
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_KERNEL_RELEASE = "/proc/sys/kernel/osrelease"
_FIPS = "/proc/sys/crypto/fips_enabled"
# crypto-policies(7): what was asked for, and what update-crypto-policies(8) last applied.
_POLICY_CONFIGURED = "/etc/crypto-policies/config"
_POLICY_APPLIED = "/etc/crypto-policies/state/current"

SPEC = Spec(
    detector=1,
    reads=(*_OS_RELEASE, _KERNEL_RELEASE, _FIPS, _POLICY_CONFIGURED, _POLICY_APPLIED),
)


def scan(host: Host) -> Scan:
    """Look at the four."""
    found = Scan()
    _operating_system(host, found)
    _kernel(host, found)
    _fips(host, found)
    _crypto_policy(host, found)
    if not found.entries and not found.skipped:
        found.absent = "there is neither /etc nor /proc"
    return found


def _read(host: Host, found: Scan, path: str) -> str | None:
    """A page as raw text; None when it is not there (no skip) or cannot be read (a skip)."""
    try:
        return os.fsdecode(host.read(path))
    except errors.VanishedError:
        return None
    except errors.HostError as error:
        found.skip_error(error)
        return None


def _add(host: Host, found: Scan, key: str, asset: AnyAsset, path: str | None) -> None:
    where = Location()
    if path is not None:
        real = host.real_path(path)
        where = Location(path=text(real), aliases=(path,) if real != path else ())
    found.entries.append(Entry(key=key, asset=asset, where=where))


def _operating_system(host: Host, found: Scan) -> None:
    for path in _OS_RELEASE:
        page = _read(host, found, path)
        if page is None:
            continue
        fields = _assignments(page)
        asset = OperatingSystem(
            # os-release(5): "If not set, defaults to linux".
            id=fields.get("ID", "linux"),
            name=fields.get("PRETTY_NAME"),
            version=fields.get("VERSION_ID"),
            codename=fields.get("VERSION_CODENAME"),
        )
        _add(host, found, "os", asset, path)
        return


def _assignments(page: str) -> dict[str, str]:
    """Shell-like assignments by name; an empty value counts as not set."""
    fields = {}
    for line in page.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            # An open quotation mark: the text as it is says more than nothing.
            words = [value]
        if words and words[0]:
            fields[name] = text(words[0])
    return fields


def _kernel(host: Host, found: Scan) -> None:
    page = _read(host, found, _KERNEL_RELEASE)
    if page is not None and page.strip():
        # A host that is a directory does not run, so it has no machine to ask; its page of /proc was copied.
        machine = os.uname().machine if host.root == "/" else "unknown"
        _add(host, found, "kernel", Kernel(release=text(page.strip()), machine=machine), _KERNEL_RELEASE)


def _fips(host: Host, found: Scan) -> None:
    before = dict(found.skipped)
    page = _read(host, found, _FIPS)
    if page is not None:
        _add(host, found, "fips", FipsMode(enabled=page.strip() == "1", supported=True), _FIPS)
    elif found.skipped == before and host.exists("/proc/sys/kernel"):
        # Built without CONFIG_CRYPTO_FIPS. Where /proc itself is missing, nothing is known.
        _add(host, found, "fips", FipsMode(enabled=False, supported=False), None)


def _crypto_policy(host: Host, found: Scan) -> None:
    before = dict(found.skipped)
    configured = _read(host, found, _POLICY_CONFIGURED)
    applied = _read(host, found, _POLICY_APPLIED)
    if configured is None and applied is None:
        if found.skipped == before and host.exists("/etc"):
            _add(host, found, "crypto-policy", CryptoPolicy(present=False), None)
        return
    asset = CryptoPolicy(present=True, configured=_first_word(configured), applied=_first_word(applied))
    path = _POLICY_APPLIED if configured is None else _POLICY_CONFIGURED
    _add(host, found, "crypto-policy", asset, path)


def _first_word(page: str | None) -> str | None:
    for line in (page or "").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            return text(words[0])
    return None
