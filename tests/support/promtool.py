"""promtool, from Debian's package of Prometheus."""

import subprocess

from testbed import system


def promtool(*arguments: str, stdin: str = "") -> tuple[int, str]:
    """Run promtool and return its exit code and its output, errors included."""
    program = system.unpacked("prometheus", "usr/bin/promtool")
    done = subprocess.run(
        [program, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout
