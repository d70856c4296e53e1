"""`make check` and `make lint` as tests, so that they run beside the others and `make test` covers everything."""

import subprocess

import pytest

from testbed import paths

# A whole `mypy` without its cache, while other tests keep both cores busy.
CHECK_SECONDS = 900


@pytest.mark.parametrize("target", ["check-format", "check-types", "check-generated", "check-lock", "lint"])
def test_make_finds_nothing_to_change(target: str) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=paths.REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHECK_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"`make {target}` failed:\n{done.stdout}"
