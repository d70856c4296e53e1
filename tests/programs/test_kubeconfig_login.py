"""Login plugins of a kubeconfig, run by the command as users run it; an HTTP server replaces the cluster."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from agent_operator.cli import main
from testbed.ports import free_port

COMMAND = Path(sys.executable).parent / "agent-operator"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "KUBERNETES_SERVICE_HOST")

CREDENTIAL = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "kind": "ExecCredential",
    "status": {"token": "token-of-the-plugin"},
}


class Cluster:
    """Rejects every request, and records its credentials."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append(self.headers.get("Authorization"))
                self.send_error(403)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def run(folder: Path, *arguments: str, kubeconfig: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the operator as its own process, and a tool in this one, which saves its imports."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": kubeconfig or str(folder / "config")}
    environment |= more
    if arguments[0] == "run":
        return subprocess.run(
            [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    with pytest.MonkeyPatch.context() as patch:
        for name in PROXIES:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def write(folder: Path, cluster: Cluster, script: str, **plugin: Any) -> None:
    """Write a kubeconfig whose user logs in by a script next to it."""
    (folder / "plugin.sh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "plugin.sh").chmod(0o755)
    (folder / "credential.json").write_text(json.dumps(CREDENTIAL))
    execute = {
        "apiVersion": CREDENTIAL["apiVersion"],
        "command": "./plugin.sh",
        "interactiveMode": "IfAvailable",
        **plugin,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": cluster.url, "certificate-authority-data": base64.b64encode(b"ca").decode()},
            }
        ],
        "users": [{"name": "u", "user": {"exec": execute}}],
    }
    (folder / "config").write_text(yaml.safe_dump(document))


def test_the_credentials_of_a_plugin_are_used(tmp_path: Path, cluster: Cluster) -> None:
    script = f"""[ "$FLAVOUR" = eks ] || exit 1
echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
echo a note >&2
cat {tmp_path}/credential.json"""
    write(tmp_path, cluster, script, env=[{"name": "FLAVOUR", "value": "eks"}], provideClusterInfo=True, args=None)
    run(tmp_path, "doctor", "-A")
    assert set(cluster.asked) == {"Bearer token-of-the-plugin"}
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == cluster.url
    assert info["spec"]["interactive"] is False


FAILURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "it fails": (
        "printf 'expired: \\033[31mrun cloud login\\n' >&2; exit 1",
        {},
        "plugin.sh failed with exit code 1: expired: [31mrun cloud login",
    ),
    "it fails silently": ("exit 3", {}, "plugin.sh failed with exit code 3: it printed no error message"),
    "it is not there": (
        "",
        {"command": "no-such-plugin", "installHint": "Install the CLI."},
        "no-such-plugin could not be started: No such file or directory. Install the CLI.",
    ),
    "it may not be run": ("", {"command": "/etc/passwd"}, "passwd could not be started: Permission denied"),
    "it prints nothing": ("true", {}, "plugin.sh printed no ExecCredential"),
    "it prints something else": ("echo token-s3cret", {}, "plugin.sh printed no ExecCredential"),
    "it prints no credential": (
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "status": {}}\'',
        {},
        "returned neither a token nor a certificate",
    ),
    "it speaks another version": (
        "cat DIR/credential.json",
        {"apiVersion": "client.authentication.k8s.io/v1beta1"},
        "returned apiVersion client.authentication.k8s.io/v1, but",
    ),
    "it has no command": ("", {"command": None}, "has no command"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_plugin_is_an_error_with_its_name_and_output_and_no_anonymous_fallback(
    tmp_path: Path, cluster: Cluster, failure: str
) -> None:
    script, plugin, words = FAILURES[failure]
    write(tmp_path, cluster, script.replace("DIR", str(tmp_path)), **plugin)
    done = run(tmp_path, "doctor", "-A")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Could not log in to the cluster" in done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr
    assert "\033" not in done.stderr
    assert cluster.asked == []


def test_the_operator_does_not_start_without_its_login(tmp_path: Path, cluster: Cluster) -> None:
    write(tmp_path, cluster, "echo expired >&2; exit 1")
    done = run(tmp_path, "run", "--health-port", str(free_port()))
    assert done.returncode == 1
    assert "the login plugin plugin.sh failed with exit code 1: expired" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert cluster.asked == []


@pytest.mark.parametrize("form", [":{}", "{}:", "/nowhere/config::{}"])
def test_empty_and_missing_entries_of_kubeconfig_are_skipped(tmp_path: Path, cluster: Cluster, form: str) -> None:
    write(tmp_path, cluster, f"cat {tmp_path}/credential.json")
    run(tmp_path, "doctor", "-A", kubeconfig=form.format(tmp_path / "config"))
    assert set(cluster.asked) == {"Bearer token-of-the-plugin"}


DEAD = "http://user:hunter2@127.0.0.1:1"


@pytest.mark.parametrize(("no_proxy", "direct"), [("10.0.0.0/8,127.0.0.0/8", True), ("*", True), ("10.0.0.0/8", False)])
def test_a_network_in_no_proxy_is_reached_directly_and_a_dead_proxy_is_named_in_the_error(
    tmp_path: Path, cluster: Cluster, no_proxy: str, *, direct: bool
) -> None:
    write(tmp_path, cluster, f"cat {tmp_path}/credential.json")
    done = [
        run(tmp_path, *arguments, HTTP_PROXY=DEAD, NO_PROXY=no_proxy)
        for arguments in (("doctor", "-A"), ("run", "--health-port", str(free_port())))
    ]
    assert bool(cluster.asked) is direct
    for each in done:
        assert ("proxy http://127.0.0.1:1: the proxy cannot be reached" in each.stderr + each.stdout) is not direct
        assert ("Check that the cluster is up" in each.stderr) is False
        assert "hunter2" not in each.stderr + each.stdout
