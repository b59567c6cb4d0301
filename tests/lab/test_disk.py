# SPDX-License-Identifier: Apache-2.0
"""Does a host's disk show the distribution, and never lead onto the machine's?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import disk
from tests.lab.errors import LabError
from tests.lab.spec import Job

pytestmark = [pytest.mark.root, pytest.mark.lab]


def test_a_checkout_among_the_distributions_files_is_hidden(tmp_path: Path) -> None:
    """Not every machine keeps its checkouts at the top or below a home."""
    # Given a base with a checkout in a directory that hosts see, and a file of the machine's at the top
    base, upper = tmp_path / "base", tmp_path / "upper"
    for path in ("usr/share/doc", "usr/share/checkout", "builds", "opt/own"):
        (base / path).mkdir(parents=True)
    (base / "usr/share").chmod(0o751)
    upper.mkdir()
    job = Job(str(tmp_path), "/usr/share/checkout", "sh", str(base), "1m", 1, {}, ())

    # When what hosts must not see is covered
    disk._hide(job, str(upper))

    # Then both are whited out, /opt is bare, and what else is there shows through
    assert sorted(str(path.relative_to(upper)) for path in upper.rglob("*")) == [
        *("builds", "opt", "usr", "usr/share", "usr/share/checkout"),
    ]
    assert [(upper / path).is_char_device() for path in ("builds", "usr/share/checkout")] == [True, True]
    assert os.getxattr(upper / "opt", "trusted.overlay.opaque") == b"y"
    assert (upper / "usr/share").stat().st_mode & 0o777 == 0o751


def test_a_file_that_leads_onto_the_machine_is_refused(tmp_path: Path) -> None:
    """An absolute link such as /var/run means another place before the host's root is entered."""
    # Given a root with a link that leads out of it, and one that stays in
    machine, root = tmp_path / "machine", tmp_path / "root"
    for directory in (machine, root / "var", root / "usr/lib"):
        directory.mkdir(parents=True)
    (root / "var/run").symlink_to(machine)
    (root / "lib").symlink_to("usr/lib")

    # When files are put behind both
    disk.put(str(root), "/lib/planted", "x", 0o640)
    with pytest.raises(LabError, match="/var/run/planted leads out of the host"):
        disk.put(str(root), "/var/run/planted", "x")

    # Then only the latter is refused
    assert (root / "usr/lib/planted").stat().st_mode & 0o777 == 0o640
    assert list(machine.iterdir()) == []
