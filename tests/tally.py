# SPDX-License-Identifier: Apache-2.0
"""How many tests passed, failed and were skipped in all runs together?

Usage: tally.py REPORT.xml...   (JUnit files as pytest writes them, one per run)

Prints one line, `N passed, N failed, N skipped`. Exit code 1 when a test failed, when nothing passed, or when
a run left no report, because a run that died must not look like one that had nothing to do.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def count(report: Path) -> tuple[int, int, int]:
    """Passed, failed (errors included) and skipped tests of one JUnit file.

    Raises:
        OSError: there is no such file.
        xml.etree.ElementTree.ParseError: the run died while it was written.
    """
    passed = failed = skipped = 0
    for suite in ET.parse(report).getroot().iter("testsuite"):
        suite_failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        suite_skipped = int(suite.get("skipped", 0))
        passed += int(suite.get("tests", 0)) - suite_failed - suite_skipped
        failed += suite_failed
        skipped += suite_skipped
    return passed, failed, skipped


def main(arguments: list[str]) -> int:
    """Print the sum over all reports; see the module for the exit code."""
    passed = failed = skipped = 0
    for name in arguments:
        try:
            counts = count(Path(name))
        except (OSError, ET.ParseError) as error:
            print(f"the test run behind {name} did not finish: {error}", file=sys.stderr)
            counts = 0, 1, 0
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
