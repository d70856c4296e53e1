"""Which proxy of the environment is used: the same for the service, the operator and the tools."""

from pathlib import Path

import pytest

import agent_operator.kube.proxy as of_operator
import agent_service.network.proxy as of_service
from agent_service.network.proxy import ProxyError, is_exempt, proxy_for, without_password

PROXY = "http://proxy.example:3128"


def test_service_and_operator_have_the_same_rules() -> None:
    ours, theirs = (Path(str(module.__file__)).read_text() for module in (of_service, of_operator))
    assert ours == theirs


@pytest.mark.parametrize(
    ("url", "no_proxy", "exempt"),
    [
        ("https://10.96.0.1:443", "10.96.0.0/16", True),
        ("https://10.96.0.1", ".svc,.cluster.local,10.0.0.0/8", True),
        ("https://10.96.0.1", "10.1.2.3/8", True),
        ("https://10.96.0.1", "172.30.0.0/16", False),
        ("https://10.96.0.1", "10.96.0.1", True),
        ("https://10.96.0.1", "10.96.0.1:443", True),
        ("https://10.96.0.1:6443", "10.96.0.1:443", False),
        ("https://10.96.0.1", "10.96.0", False),
        ("https://10.96.0.1", "nonsense/8,10.0.0.0/99", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "[fd00::]/8", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://[fd00::1]:6443", "fd00:0:0::1", True),
        ("https://[fd00::1]:6443", "[fd00::1]", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "[fd00::1]:443", False),
        ("https://[fd00::1]", "10.0.0.0/8", False),
        ("http://gw.example", "*", True),
        ("http://gw.example", "other.example, * ", True),
        ("http://gw.example", ".example", True),
        ("http://gw.example", "*.example", True),
        ("http://gw.example", "example", True),
        ("http://gw.example", "gw.example", True),
        ("http://gw.example.", "gw.example", True),
        ("http://GW.Example", "gw.EXAMPLE", True),
        ("http://gw.example", ".gw.example", True),
        ("http://gw.example", "w.example", False),
        ("http://gw.example", "gw.example:80", True),
        ("http://gw.example", "gw.example:8080", False),
        ("http://gw.example:8080", ".example:8080", True),
        ("http://gw.example", "10.0.0.0/8, gw.example ,.svc", True),
        ("http://gw.example", "a b gw.example", True),
        ("http://gw.example", "", False),
        ("http://gw.example", ",,. ,", False),
        ("http://redis", "localhost", False),
        ("http://localhost:8000", "localhost", True),
    ],
)
def test_no_proxy_matches_as_in_kubectl_and_curl(url: str, no_proxy: str, exempt: bool) -> None:
    assert is_exempt(url, no_proxy) is exempt
    assert (proxy_for(url, {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}) is None) is exempt


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": f" {PROXY}\n"}, PROXY),
        ({"HTTP_PROXY": "proxy.example:3128"}, PROXY),
        ({"HTTP_PROXY": "other:1", "http_proxy": PROXY}, PROXY),
        ({"HTTPS_PROXY": PROXY}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "other", "no_proxy": "gw.example"}, None),
        ({"ALL_PROXY": PROXY}, None),
    ],
)
def test_the_proxy_is_selected_by_scheme(environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_for("http://gw.example", environ) == proxy


def test_all_proxy_is_used_only_on_request() -> None:
    assert proxy_for("http://gw.example", {"ALL_PROXY": PROXY}, any_scheme=True) == PROXY
    both = {"ALL_PROXY": "other:1", "HTTP_PROXY": PROXY}
    assert proxy_for("http://gw.example", both, any_scheme=True) == PROXY


@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:1", "http://", "http://proxy:port", "http://[::1", "a b", "ftp://x"]
)
def test_an_unusable_proxy_is_an_error_without_its_password(value: str) -> None:
    with pytest.raises(ProxyError, match="HTTP_PROXY"):
        proxy_for("http://gw.example", {"HTTP_PROXY": value})
    assert proxy_for("http://gw.example", {"HTTP_PROXY": value, "NO_PROXY": "*"}) is None


def test_a_proxy_is_shown_without_its_password() -> None:
    assert without_password("http://user:hunter2@proxy.example:3128/") == PROXY
