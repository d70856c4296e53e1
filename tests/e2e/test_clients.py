"""Clients of other protocols ask an agent in pods, and answers survive the pods that produce them."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.helpers import new_text_message
from a2a.types import Role, SendMessageRequest
from mcp import Client
from playwright.async_api import expect

from e2e.agents import AGENT, apply_agent, put_secret, secret_spec
from e2e.resumable import resumable_answers
from stand_in import StandIn, asking
from support.browser import running_browser
from support.browser.chat import open_chat
from support.claude_code import ask_claude
from support.eventually import eventually
from support.mcp_conformance import RUNS, run_suite, unexpected
from support.openai_clients import ai_sdk
from testbed.addons import MODEL_API
from testbed.cluster import Cluster
from testbed.portforward import forwarded
from testbed.redis import SHARED, put_redis

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

ANSWERS = 200
# Some ten seconds each, so that the pods are killed in the middle of every answer.
LONG = asking("List them all.", slow=0.5)
BEGIN_SECONDS = 90
# A lease and a retry of what the killed process had, and the whole answer again.
WHOLE_SECONDS = 180


@pytest.fixture(scope="module")
def namespace(real_cluster: Cluster, operator: None, model_api: str) -> Iterator[str]:
    """A namespace with an agent of two API pods and a worker, which speaks all protocols; the tests share it.

    It takes the tools of its clients, because the `claude` program has some.
    """
    with real_cluster.fresh_namespace() as name:
        put_redis(real_cluster, name)
        put_secret(real_cluster, name, "key-of-the-tests")
        sharing = {"redis": SHARED, "worker": {"enabled": True, "replicas": 1}, "replicas": 2}
        apply_agent(real_cluster, name, secret_spec(model_api, api={"mcp": True, "clientTools": True}, **sharing))
        yield name


@pytest.fixture
def url(real_cluster: Cluster, namespace: str) -> Iterator[str]:
    """The address of the agent on this machine."""
    with forwarded(real_cluster, namespace, f"svc/{AGENT}", 80) as found:
        yield found


@pytest.fixture
def stand_in(real_cluster: Cluster, model_api: str) -> Iterator[StandIn]:
    """The stand-in for the model API, which the tests of other files use as well."""
    with forwarded(real_cluster, MODEL_API, f"svc/{MODEL_API}", 80) as url, closing(StandIn(url)) as found:
        yield found


def test_the_openai_sdk_chats_and_lists_the_agent_as_a_model(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(model=AGENT, messages=[{"role": "user", "content": "Ahoy."}])
        response = client.responses.create(model=AGENT, input="Ahoy again.")
        models = [each.id for each in client.models.list()]

    assert 'Stand-in heard "Ahoy."' in str(answer.choices[0].message.content)
    assert 'Stand-in heard "Ahoy again."' in response.output_text
    assert models == [AGENT]


def test_the_anthropic_sdk_streams_from_the_agent(url: str) -> None:
    with (
        anthropic.Anthropic(base_url=url, api_key="none") as client,
        client.messages.stream(model=AGENT, max_tokens=100, messages=[{"role": "user", "content": "Ahoy."}]) as stream,
    ):
        text = "".join(stream.text_stream)

    assert 'Stand-in heard "Ahoy."' in text


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_vercels_ai_sdk_asks_the_agent(url: str, api: str, *, stream: bool) -> None:
    answer = ai_sdk(url, api=api, stream=stream, messages=[{"role": "user", "content": "Ahoy."}])

    assert 'Stand-in heard "Ahoy."' in answer["text"], answer
    assert answer["finishReason"] == "stop"
    assert answer["usage"]["outputTokens"] > 0


def test_the_claude_program_runs_its_tools_for_the_agents_model(url: str, tmp_path: Path) -> None:
    steps = [
        [{"name": "Write", "input": {"file_path": str(tmp_path / "log.txt"), "content": "Land in sight."}}],
        [{"name": "Bash", "input": {"command": "echo sum-$((40+2))", "description": "Add"}}],
    ]
    result = ask_claude(url, tmp_path, asking("Ahoy.", calls=steps), "--allowedTools", "Write,Bash")

    assert result["is_error"] is False
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "Land in sight."
    assert "sum-42" in result["result"], result


def test_the_a2a_sdk_finds_the_card_and_sends_a_message(url: str) -> None:
    async def ask() -> str:
        async with httpx.AsyncClient(timeout=60) as http:
            card = await A2ACardResolver(http, url).get_agent_card()
            assert card.name == AGENT
            client = ClientFactory(ClientConfig(httpx_client=http)).create(card)
            request = SendMessageRequest(message=new_text_message("Ahoy.", role=Role.ROLE_USER))
            return "".join([str(event) async for event in client.send_message(request)])

    assert "Stand-in heard" in asyncio.run(ask())


def test_the_mcp_sdk_calls_the_agent_as_a_tool(url: str) -> None:
    async def ask() -> str:
        async with Client(f"{url}/mcp") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["ask"]
            return str((await client.call_tool("ask", {"message": "Ahoy."})).content)

    assert "Stand-in heard" in asyncio.run(ask())


@pytest.mark.parametrize("revision", RUNS)
def test_the_conformance_suite_of_mcp_passes(url: str, revision: str, tmp_path: Path) -> None:
    outcome = run_suite(f"{url}/mcp", revision, tmp_path)

    assert unexpected(outcome) == {}
    assert "tools-list" in outcome.checks


def test_an_answer_on_the_page_continues_after_a_reload(url: str, namespace: str, stand_in: StandIn) -> None:
    # The namespace has a name that no other test holds an answer by.
    message = asking("Ahoy.", hold=namespace, after=16, words=20)

    async def reload() -> str:
        async with running_browser() as browser, open_chat(browser, url) as chat:
            await chat.say(message)
            await expect(chat.answer).to_contain_text("word2")
            partial = await chat.answer.inner_text()
            await chat.page.reload()
            await expect(chat.answer).to_have_text(partial)
            await expect(chat.stop_button).to_be_visible()
            await asyncio.to_thread(stand_in.release, namespace)
            await expect(chat.facts).to_contain_text("tokens in")
            await expect(chat.answers).to_have_count(1)
            return await chat.answer.inner_text()

    text = asyncio.run(reload())
    whole = httpx.post(f"{url}/chat", json={"message": message}, timeout=60).raise_for_status().json()["response"]
    assert text == whole
    assert whole.endswith("word19")


def test_killed_pods_lose_no_text_of_two_hundred_answers(real_cluster: Cluster, namespace: str, url: str) -> None:
    whole = httpx.post(f"{url}/chat", json={"message": LONG}, timeout=60).raise_for_status().json()["response"]

    with resumable_answers(real_cluster, f"{AGENT}.{namespace}", ANSWERS, LONG) as lines:
        eventually(lambda: _count(lines, "began") == ANSWERS, "each answer has its first event", BEGIN_SECONDS)
        chosen = f"app.kubernetes.io/instance={AGENT},app.kubernetes.io/component"
        killed = [
            *_names(real_cluster, namespace, f"{chosen}=api")[:1],
            *_names(real_cluster, namespace, f"{chosen}=worker"),
        ]
        real_cluster.kubectl("delete", "pod", "-n", namespace, "--grace-period=0", "--force", *killed)
        eventually(lambda: _count(lines, "all") == 1, "all answers have ended", WHOLE_SECONDS)

    ended = [line for line in lines if "number" in line]
    print(f"{len(ended)} answers, {sum(line['breaks'] for line in ended)} broken connections")  # noqa: T201
    assert len(ended) == ANSWERS
    assert any("resumed" in line["kinds"] for line in ended)
    assert [line for line in ended if line["text"] != whole or line["end"]["type"] != "done"] == []


def _count(lines: list[dict[str, object]], kind: str) -> int:
    return sum(kind in line for line in list(lines))


def _names(cluster: Cluster, namespace: str, selector: str) -> list[str]:
    found = cluster.get("pods", "-n", namespace, "-l", selector, "--field-selector=status.phase=Running")["items"]
    return sorted(pod["metadata"]["name"] for pod in found)
