"""The system prompt: from a file, as a ConfigMap provides it in a pod, or from a request."""

from pathlib import Path

import pytest

from stand_in import StandIn
from support.agent import KEY, MakeClient, Service, StartService


def test_a_changed_file_takes_effect_with_the_next_message(
    start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    file = tmp_path / "secrets" / "SYSTEM_PROMPT"
    file.parent.mkdir()
    file.write_text("Be brief.\n")
    service = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, SECRETS_DIR=str(file.parent), RATE_LIMIT_REQUESTS="0"
    )
    assert 'system prompt "Be brief."' in _answer(service)
    assert "File of a setting changed" not in service.log()

    file.write_text("Be kind.\n")
    assert 'system prompt "Be kind."' in _answer(service)

    file.write_text(" \n")
    assert "no system prompt" in _answer(service)

    file.write_text("x" * 100_001)
    assert "no system prompt" in _answer(service)
    assert "File of a setting could not be used, kept the previous value" in service.log()


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, True),
        ({"environment": "staging"}, True),
        ({"environment": "production"}, False),
        ({"environment": "production", "allow_system_prompt": True}, True),
        ({"allow_system_prompt": False}, False),
    ],
)
async def test_callers_may_replace_the_system_prompt_where_allowed_and_not_in_production(
    make_client: MakeClient, stand_in: StandIn, settings: dict[str, object], taken: bool
) -> None:
    client = await make_client(system_prompt="Be brief.", **settings)
    answer = await client.post("/chat/stream", json={"message": "hello", "system_prompt": "Be loud."})
    if taken:
        assert answer.status_code == 200
        assert stand_in.last()["system"] == "Be loud."
    else:
        assert answer.status_code == 403
        assert "system_prompt" in answer.json()["detail"]
        assert stand_in.requests() == []
    await client.post("/chat/stream", json={"message": "hello", "system_prompt": None})
    assert stand_in.last()["system"] == "Be brief."


def _answer(service: Service) -> str:
    answer = service.post("/chat", message="Hello")
    text: str = answer.json()["response"]
    return text
