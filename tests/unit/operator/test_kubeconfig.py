"""Kubeconfigs as clouds and users write them are read as kubectl reads them; files only, no cluster."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.kube import kubeconfig
from agent_operator.kube.kubeconfig import Chosen, KubeconfigError, LoginError, NoContextError, chosen_files, load


@pytest.fixture(autouse=True)
def _no_cluster_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def document(name: str, **user: Any) -> dict[str, Any]:
    """Return a kubeconfig with one context, whose names are all `name`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"}}],
        "users": [{"name": name, "user": user or {"token": f"token-of-{name}"}}],
    }


def write(path: Path, content: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


async def outcome(files: str, context: str | None = None) -> Chosen:
    return await load(chosen_files(files), context)


@pytest.mark.parametrize("form", ["{}", ":{}", "{}:", "::{}::", "/nowhere/config:{}", "{}:/nowhere/config", " {} : "])
async def test_empty_entries_and_missing_files_are_skipped(tmp_path: Path, form: str) -> None:
    chosen = await outcome(form.format(write(tmp_path / "a", document("a"))))
    assert (chosen.settings.host, chosen.namespace) == ("https://a.example:6443", "of-a")
    assert chosen.settings.api_key == {"BearerToken": "Bearer token-of-a"}


def test_a_list_of_empty_entries_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", "::")
    assert chosen_files(None) == [tmp_path / ".kube" / "config"]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert kubeconfig.in_cluster()


async def test_the_first_of_several_files_wins(tmp_path: Path) -> None:
    first, second = document("a"), document("a")
    second["clusters"][0]["cluster"]["server"] = "https://other.example"
    second["current-context"] = "b"
    second["contexts"] += document("b")["contexts"]
    second["clusters"] += document("b")["clusters"]
    second["users"] += document("b")["users"]
    files = f"{write(tmp_path / '1', first)}:{write(tmp_path / '2', second)}"
    assert (await outcome(files)).settings.host == "https://a.example:6443"
    assert (await outcome(files, "b")).settings.host == "https://b.example:6443"


async def test_parts_in_several_files_and_an_empty_one_are_merged(tmp_path: Path) -> None:
    whole = document("a")
    write(tmp_path / "users", {key: value for key, value in whole.items() if key == "users"})
    write(tmp_path / "rest", {key: value for key, value in whole.items() if key != "users"})
    write(tmp_path / "empty", "")
    chosen = await outcome(f"{tmp_path}/empty:{tmp_path}/rest:{tmp_path}/users")
    assert chosen.settings.api_key == {"BearerToken": "Bearer token-of-a"}


async def test_paths_are_relative_to_their_file_and_nulls_are_absent(tmp_path: Path) -> None:
    content = document("a")
    content["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    content["users"][0]["user"] = {"tokenFile": "token", "auth-provider": None, "exec": None}
    content["preferences"] = None
    write(tmp_path / "kube" / "ca.crt", "a certificate")
    write(tmp_path / "kube" / "token", "of a file")
    chosen = await outcome(str(write(tmp_path / "kube" / "config", content)))
    assert chosen.settings.ssl_ca_cert == str(tmp_path / "kube" / "ca.crt")
    assert chosen.settings.api_key == {"BearerToken": "Bearer of a file"}


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
async def test_files_of_other_editors_are_read(tmp_path: Path, mark: str, end: str) -> None:
    path = tmp_path / "config"
    path.write_bytes((mark + yaml.safe_dump(document("a")).replace("\n", end)).encode())
    assert (await outcome(str(path))).namespace == "of-a"


@pytest.mark.parametrize(
    "content",
    [
        "- 1\n",
        "text",
        "{",
        "clusters: 5\n",
        "clusters: [5]\n",
        "clusters: [{cluster: {}}]\n",
        "a: b\n",
        "\x00\x01",
        "users: [{name: a, user: 5}]\n",
    ],
)
async def test_an_invalid_kubeconfig_is_reported_in_one_sentence(tmp_path: Path, content: str) -> None:
    with pytest.raises(KubeconfigError) as raised:
        await outcome(str(write(tmp_path / "config", content)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", ["contexts", "clusters"])
async def test_a_context_with_a_missing_part_is_an_error(tmp_path: Path, part: str) -> None:
    with pytest.raises(KubeconfigError, match="context"):
        await outcome(str(write(tmp_path / "config", {**document("a"), part: []})))
    with pytest.raises(NoContextError, match="elsewhere"):
        await outcome(str(write(tmp_path / "config", document("a"))), "elsewhere")


async def test_a_context_without_a_user_is_anonymous_and_one_with_an_unknown_user_an_error(tmp_path: Path) -> None:
    content = {**document("a"), "users": []}
    with pytest.raises(KubeconfigError, match="the user a"):
        await outcome(str(write(tmp_path / "config", content)))
    del content["contexts"][0]["context"]["user"]
    assert (await outcome(str(write(tmp_path / "config", content)))).settings.api_key == {}


@pytest.mark.parametrize("name", ["azure", "openstack", None])
async def test_a_plugin_that_is_no_longer_installed_is_an_error(tmp_path: Path, name: str | None) -> None:
    content = document("a", **{"auth-provider": {"name": name, "config": {}}})
    with pytest.raises(LoginError, match="not supported"):
        await outcome(str(write(tmp_path / "config", content)))


@pytest.mark.parametrize(
    ("no_proxy", "proxy"),
    [("", "http://proxy:1"), ("10.0.0.0/8", None), ("192.0.2.0/24,.svc", "http://proxy:1"), ("10.1.2.3:6443", None)],
)
async def test_the_proxy_of_the_environment_is_used_unless_no_proxy_exempts_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str, proxy: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    content = document("a")
    content["clusters"][0]["cluster"]["server"] = "https://10.1.2.3:6443"
    path = str(write(tmp_path / "config", content))
    assert (await outcome(path)).settings.proxy == proxy
    content["clusters"][0]["cluster"]["proxy-url"] = "http://own:2"
    assert (await outcome(str(write(tmp_path / "config", content)))).settings.proxy == "http://own:2"


async def test_an_unusable_proxy_of_the_kubeconfig_is_an_error(tmp_path: Path) -> None:
    content = document("a")
    content["clusters"][0]["cluster"]["proxy-url"] = "socks5://proxy:1080"
    with pytest.raises(KubeconfigError, match="proxy-url is not the address of an HTTP proxy"):
        await outcome(str(write(tmp_path / "config", content)))


async def test_an_unusable_proxy_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@proxy:1")
    with pytest.raises(KubeconfigError, match="HTTPS_PROXY is not the address of an HTTP proxy") as raised:
        await outcome(str(write(tmp_path / "config", document("a"))))
    assert "hunter2" not in str(raised.value)
    assert os.environ["HOME"] == str(tmp_path)
