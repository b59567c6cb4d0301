# SPDX-License-Identifier: Apache-2.0
"""How does a test get a lab, or the machine's own reason why it cannot have one?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.errors import LabRefusedError
from tests.lab.lab import Lab


@contextmanager
def up_or_skip(lab: Lab) -> Iterator[Lab]:
    """The lab, up; when this machine cannot hold one, the test is skipped with the machine's reason."""
    try:
        lab.up()
    except LabRefusedError as refusal:
        pytest.skip(str(refusal))
    try:
        yield lab
    finally:
        lab.down()
