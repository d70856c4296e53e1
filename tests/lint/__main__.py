"""`python -m lint`: run every linter, and exit with code 1 if one has a finding."""

import sys

from lint import linters
from testbed.console import say, step
from testbed.errors import TestbedError


def main() -> None:
    """Run the linters."""
    try:
        with step("Linting charts, manifests, samples, the Dockerfile and the workflows"):
            findings = linters.all_findings(say)
    except TestbedError as error:
        sys.exit(f"error: {error}")
    for each in findings:
        sys.stdout.write(f"{each}\n")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
