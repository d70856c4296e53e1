"""`agent-service ask --api`: one question to a running agent in each of its protocols."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_service.client.protocols import PROTOCOLS
from support.agent import Service, run_agent_service, running_service

CLIENT_KEY = "a-client-key-of-the-tests"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("agent"), MODEL_PROVIDER="echo", API_KEYS=CLIENT_KEY, API_MCP="true"
    ) as service:
        yield service
