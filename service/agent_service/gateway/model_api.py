"""The interface of what answers the gateway's calls: the model API, or the echo in its place."""

from collections.abc import Mapping
from typing import Protocol

from agent_service.agent.provider import Waiting
from agent_service.gateway.forms import Form
from agent_service.gateway.question import Question
from agent_service.gateway.reply import Reply


class ModelApi(Protocol):
    """Answers calls."""

    @property
    def marks(self) -> bool:
        """Whether prompts may be marked for the cache."""

    async def call(
        self, path: str, received: Mapping[str, str], question: Question, form: Form, waiting: Waiting
    ) -> Reply:
        """Return the answer to a question, whose bytes have not been read yet unless it is an error.

        Args:
            path: path and query of the call.
            received: headers of the caller.
            question: the body.
            form: form of the API that is called.
            waiting: returns a context that is entered while the call waits because it was throttled.

        Raises:
            RefusedError: when the call fails without an answer for the caller.
        """

    async def count_tokens(self, path: str, received: Mapping[str, str], question: Question, waiting: Waiting) -> Reply:
        """Return the number of tokens of a question in the form of the Messages API. Arguments and errors as `call`."""

    async def close(self) -> None:
        """Close all connections."""
