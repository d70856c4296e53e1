"""Settings of providers in clouds, and the endpoint that follows from them."""

import json
from pathlib import Path

import pytest

from agent_service.agent.bedrock.keys import AwsKeyFiles, AwsKeys
from agent_service.agent.claude.renewal import unobserved
from agent_service.agent.endpoints import Reports, make_endpoint
from agent_service.config.loading import SettingsError, load

GOOGLE_KEY = json.dumps({"client_email": "a@b", "private_key": "secret-of-the-key", "private_key_id": "one"})

BEDROCK = {
    "MODEL_PROVIDER": "bedrock",
    "BEDROCK_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKID",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
VERTEX = {
    "MODEL_PROVIDER": "vertex",
    "VERTEX_PROJECT": "one",
    "VERTEX_REGION": "eu",
    "GOOGLE_SERVICE_ACCOUNT_KEY": GOOGLE_KEY,
}
FOUNDRY = {"MODEL_PROVIDER": "foundry", "FOUNDRY_RESOURCE": "one", "ANTHROPIC_FOUNDRY_API_KEY": "key"}


def faults(**given: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        with pytest.raises(SettingsError) as raised:
            load()
    return raised.value.faults


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (BEDROCK, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        (BEDROCK | {"AWS_SESSION_TOKEN": "token"}, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        (BEDROCK | {"BEDROCK_BASE_URL": "https://proxy.internal/"}, "https://proxy.internal"),
        (BEDROCK | {"BEDROCK_API": "messages"}, "https://bedrock-mantle.eu-west-1.api.aws/anthropic"),
        (VERTEX, "https://aiplatform.eu.rep.googleapis.com/v1"),
        (VERTEX | {"VERTEX_REGION": "global"}, "https://aiplatform.googleapis.com/v1"),
        (FOUNDRY, "https://one.services.ai.azure.com/anthropic"),
        (FOUNDRY | {"FOUNDRY_RESOURCE": "", "FOUNDRY_BASE_URL": "https://f.internal/a"}, "https://f.internal/a"),
    ],
)
def test_each_provider_has_its_address(given: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert make_endpoint(load(), Reports(lambda _: None, unobserved)).address == address


@pytest.mark.parametrize("given", [BEDROCK, VERTEX, FOUNDRY], ids=lambda given: given["MODEL_PROVIDER"])
def test_each_setting_that_a_provider_needs_is_a_fault_when_it_is_missing(given: dict[str, str]) -> None:
    for name in given.keys() - {"MODEL_PROVIDER"}:
        (fault,) = faults(**{other: value for other, value in given.items() if other != name})
        assert fault.startswith(f"{name}: ")


@pytest.mark.parametrize("text", ["{}", "no JSON", '["client_email"]', '{"client_email": 1, "private_key": "secret"}'])
def test_a_file_that_is_no_key_of_a_service_account_is_a_fault_that_does_not_show_it(text: str) -> None:
    (fault,) = faults(**VERTEX | {"GOOGLE_SERVICE_ACCOUNT_KEY": text})

    assert fault.startswith("GOOGLE_SERVICE_ACCOUNT_KEY: ")
    assert text not in fault


@pytest.mark.parametrize("text", ["claude=x", "[]", '{"a": 1}', '{"a": ""}'])
def test_ids_of_models_are_a_json_object_of_texts(text: str) -> None:
    (fault,) = faults(**BEDROCK | {"MODEL_IDS": text})

    assert fault.startswith("MODEL_IDS: must be a JSON object")


async def test_keys_of_aws_in_files_change_together(tmp_path: Path) -> None:
    first, second = tmp_path / "..first", tmp_path / "..second"
    for folder, keys in ((first, ("AKID1", "secret-1", "token-1")), (second, ("AKID2", "secret-2", ""))):
        folder.mkdir()
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        for name, text in zip(names, keys, strict=True):
            if text:
                (folder / name).write_text(text + "\n")
    # As the kubelet mounts a Secret: each file is a link through one link, which it replaces.
    data = tmp_path / "..data"
    data.symlink_to("..first")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    source = AwsKeyFiles(AwsKeys("AKID1", "secret-1", "token-1"), tmp_path)
    assert await source.current() == AwsKeys("AKID1", "secret-1", "token-1")

    (tmp_path / "new").symlink_to("..second")
    (tmp_path / "new").replace(data)
    assert await source.current() == AwsKeys("AKID2", "secret-2")


async def test_a_pair_of_keys_that_is_incomplete_is_not_used(tmp_path: Path) -> None:
    source = AwsKeyFiles(AwsKeys("AKID1", "secret-1"), tmp_path)
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("AKID2")

    assert await source.current() == AwsKeys("AKID1", "secret-1")


def test_no_part_of_a_key_is_in_its_text() -> None:
    assert "secret" not in repr(AwsKeys("AKID", "secret-1", "secret-2"))
