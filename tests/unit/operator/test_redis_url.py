"""Where a secret can be hidden in the URL of Redis, which is stored in a ConfigMap: all such URLs are refused."""

import pytest

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.api.validation import InvalidAgentError, parse


def agent(url: str) -> dict[str, object]:
    spec = {"agent": {"provider": "echo"}, "redis": {"url": url}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "hello"}, "spec": spec}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@state:6379/0",
        "redis://s3cret@state",
        "rediss://user:s3cret@state",
        "redis://user%3As3cret@state",
        "redis://state/0?password=s3cret",
        "redis://state?password=s3cret",
        "redis://state?db=0&password=s3cret",
        "redis://state?PASSWORD=s3cret",
        "redis://state?p%61ssword=s3cret",
        "redis://state?%70assword=s3cret",
        "redis://state?db=0&&password=s3cret",
        "redis://state?db=0;password=s3cret",
        "redis://state?db=0?password=s3cret",
        "redis://state?db=0#password=s3cret",
        "redis://state#s3cret",
        "redis://state/0&password=s3cret",
        "redis://state?username=s3cret",
        "rediss://state?ssl_password=s3cret",
        "rediss://state?ssl_keyfile=a&ssl_password=s3cret",
        "redis://state?s3cret",
        "redis://state?credential_provider=s3cret",
        "redis://state?token=s3cret",
    ],
)
def test_an_address_that_may_hold_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidAgentError) as refused:
        parse(agent(url))
    assert "redis.secretName" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://state",
        "redis://state:6379/0",
        "redis://state.ns.svc:6379/",
        "rediss://[fd00::1]:6380/2",
        "redis://state?db=1",
        "redis://state?db=1&protocol=2",
        "rediss://state/0?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca/ca%20file.crt",
        "redis://state?socket_timeout=5&socket_connect_timeout=1.5&health_check_interval=10",
    ],
)
def test_an_address_without_a_secret_is_accepted(url: str) -> None:
    assert parse(agent(url)).spec.redis.url == url
