"""One AgentDeployment runs at each provider after a change of one block: where the model is, and who may call it."""

from pathlib import Path

import pytest

from stand_in import StandIn
from support.agent import Service, StartService
from support.clouds.places import PROVIDERS, rendered_settings, running_place
from support.eventually import eventually
from support.runtime_gateway import MODEL


@pytest.mark.parametrize("with_key", [False, True], ids=["workload identity", "key in a Secret"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_spec_runs_at_each_provider_after_a_change_of_one_block(
    stand_in: StandIn, start_service: StartService, tmp_path: Path, provider: str, *, with_key: bool
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    own = {"environment": "testing", "systemPrompt": "Be brief."}

    with running_place(provider, secrets, stand_in.url, model=MODEL, with_key=with_key) as access:
        spec = {"agent": {**own, **access}, "apiKey": {"secretName": "anthropic"} if with_key else {}}
        service = start_service(**rendered_settings(spec, secrets))
        answer = service.post("/chat", message="hello")
        streamed = service.post("/chat/stream", message="hello")
        eventually(lambda: _is_up(service), "the model API is up")

    assert 'Stand-in heard "hello"' in answer.json()["response"]
    assert 'system prompt "Be brief."' in answer.json()["response"]
    assert '"type":"done"' in streamed.text


def _is_up(service: Service) -> bool:
    return bool(service.get("/health").json()["components"]["model_api"]["status"] == "up")
