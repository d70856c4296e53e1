"""The interface of a place where the Messages API is called: at Anthropic, or in a cloud.

The built-in agent and the gateway use the same endpoint. It writes each call as its provider expects it, authorizes it,
and turns the provider's errors and streams into those of the Messages API. Everything else is the same for each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from agent_service.agent.claude.credentials import Credential, Credentials
from agent_service.agent.claude.json_object import fields, with_fields, without

if TYPE_CHECKING:
    import anthropic
    import httpx2

    Client = (
        anthropic.AsyncAnthropic
        | anthropic.AsyncAnthropicBedrock
        | anthropic.AsyncAnthropicBedrockMantle
        | anthropic.AsyncAnthropicVertex
    )

C = TypeVar("C", bound=Credential)

Framing = Callable[[bytes], bytes]
"""Takes the bytes of a stream as they arrive, and returns the server-sent events that they complete. Raises ValueError
for bytes that are not such a stream."""


class Call(Enum):
    """A call of the Messages API."""

    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"


def same(body: bytes) -> bytes:
    """Return a body as it is, for a call without an envelope."""
    return body


@dataclass(frozen=True, slots=True)
class Rewrite:
    """How a call is written at a provider.

    `path` follows the address of the provider. `dropped` are fields of the question that the path contains instead.
    `replaced` are fields with another value, and `added` those that a question without them gets. `enclose` puts the
    body into an envelope, and `disclose` takes the answer out of its own.
    """

    path: str
    dropped: frozenset[str] = frozenset()
    replaced: Mapping[str, object] = default(default_factory=dict)
    added: Mapping[str, object] = default(default_factory=dict)
    enclose: Callable[[bytes], bytes] = same
    disclose: Callable[[bytes], bytes] = same

    def of_object(self, question: Mapping[str, Any]) -> bytes:
        """Return the body for a question."""
        kept = {name: value for name, value in question.items() if name not in self.dropped}
        return self.enclose(orjson.dumps({**self.added, **kept, **self.replaced}))

    def of_bytes(self, body: bytes) -> bytes:
        """Return the body for the bytes of a question, which stay as they are but for the fields in question."""
        if not (self.dropped or self.replaced or self.added):
            return self.enclose(body)
        names = self.dropped | self.replaced.keys()
        present = {each.name for each in fields(body, frozenset(self.added))}
        added = {name: value for name, value in self.added.items() if name not in present}
        return self.enclose(with_fields(without(body, names), {**added, **self.replaced}))


@dataclass(frozen=True, slots=True)
class Failure:
    """An unsuccessful response in the form of the Messages API."""

    status: int
    content: bytes


def failure(status: int, kind: str | None, message: str) -> Failure:
    """Return an error in Anthropic's form (Claude docs, "Errors"); in another form if it has no type."""
    about = {"message": message} if kind is None else {"type": kind, "message": message}
    body = {"error": about} if kind is None else {"type": "error", "error": about}
    return Failure(status, orjson.dumps(body))


class Endpoint(Protocol[C]):
    """A place where the Messages API is called."""

    address: str
    """The base address of the calls."""

    chats: bool
    """Whether it has the Chat Completions API too."""

    credentials: Credentials[C]

    def client(self, http_client: "httpx2.AsyncClient", **options: Any) -> "Client":
        """Return the SDK's own client for the provider. `options` are those that the clients of all providers have."""

    def use(self, client: "Client", credential: C) -> None:
        """Set the credential of the client's next requests."""

    def rewrite(self, call: Call, model: str, *, streamed: bool = False, betas: Sequence[str] = ()) -> Rewrite:
        """Return how a call is written.

        Args:
            call: the call.
            model: name of the model, as the user configured it.
            streamed: whether the answer is streamed.
            betas: beta features that the caller enables by a header.
        """

    async def authorize(self, credential: C, url: str, content: bytes) -> dict[str, str]:
        """Return the headers that authorize a POST request for JSON."""

    def failure(self, status: int, headers: Mapping[str, str], content: bytes) -> Failure:
        """Return an unsuccessful response in the form of the Messages API."""

    def framing(self, media_type: str) -> Framing | None:
        """Return what unpacks a stream with this `Content-Type`; None for one of server-sent events."""


AnyEndpoint = Endpoint[Any]
"""The endpoint of any provider."""

LONG_BYTES = 2**18
"""A longer body is rewritten and signed in a thread, so that probes and streams go on."""


def model_id(model: str, ids: Mapping[str, str]) -> str:
    """Return the provider's id of a model; its name if the user configured no other id."""
    return ids.get(model, model)
