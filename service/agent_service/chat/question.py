"""What a client asks."""

from dataclasses import dataclass, field

from agent_service.agent.details import NO_DETAILS, Details


@dataclass(frozen=True, slots=True)
class Question:
    """A message of a client, with what belongs to it.

    `conversation_id` is that of the conversation to continue. `system_prompt` replaces the agent's. `token` is the
    caller's own credential, for tools that it is forwarded to.
    """

    message: str
    conversation_id: str | None = None
    system_prompt: str | None = None
    token: str | None = field(default=None, repr=False)
    details: Details = NO_DETAILS
