"""Report of a test run in (JUnit XML), exit code out: 1 if a test was skipped for want of what .ci/run provides.

That is recorded data, an OpenCL device, promtool, a browser, the simulated detector in .venv-tickit, the libraries of
the extras.

Usage: python tools/check_skips.py REPORT.xml
"""

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator

FORBIDDEN = re.compile(
    r"shared/data|recorded data|OpenCL device|\.venv-tickit|is absent: pip install|(promtool|chromium) is absent",
    re.IGNORECASE,
)


def wrongly_skipped(report: str) -> Iterator[str]:
    """``file::test: reason`` of each test that should have run where data and device are there."""
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  (our own test run wrote it)
        for skip in case.iter("skipped"):
            reason = f"{skip.get('message', '')} {skip.text or ''}"
            if FORBIDDEN.search(reason):
                yield f"{case.get('classname')}::{case.get('name')}: {skip.get('message')}"


def main() -> int:
    """Print them."""
    wrong = list(wrongly_skipped(sys.argv[1]))
    sys.stderr.writelines(f"skipped, though what it needs should be there: {line}\n" for line in wrong)
    return min(1, len(wrong))


if __name__ == "__main__":
    sys.exit(main())
