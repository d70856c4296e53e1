"""A file of the product is at most 300 lines long, unless it is a list that reads best in one piece."""

from testbed.paths import REPOSITORY

MOST_LINES = 300
LONGER = {
    "service/agent_service/config/settings.py": "one class with a field for each setting",
    "operator/agent_operator/api/spec.py": "the fields of a spec, in the order of the reference",
    "operator/agent_operator/api/reasons.py": "one entry for each reason",
    "operator/agent_operator/api/kubernetes/containers.py": "types as Kubernetes has them",
    "operator/agent_operator/api/kubernetes/volumes.py": "types as Kubernetes has them",
}


def test_files_are_short() -> None:
    files = (path for package in ("service", "operator") for path in (REPOSITORY / package).rglob("*.py"))
    long = {
        str(path.relative_to(REPOSITORY))
        for path in files
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }

    assert long == LONGER.keys()
