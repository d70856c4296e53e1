"""The agent as one tool of MCP, `ask`: its description, its arguments and its results. Pure."""

from typing import Annotated, Any, Literal, Self

import mcp_types as types
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from agent_service.chat.dialogue import Reply
from agent_service.routes.approval_form import Approval
from agent_service.routes.body import Body
from agent_service.routes.chat import ConversationId, ToolCall, sendable_message

NAME = "ask"

HOW = (
    "The agent remembers conversations: to continue one, send the conversation_id of its previous answer. Without one, "
    "a new conversation begins, and the agent knows nothing but the message."
)


class Arguments(Body):
    """Arguments of `ask`."""

    message: Annotated[
        str, Field(min_length=1, description="Question or task for the agent."), AfterValidator(sendable_message)
    ]
    conversation_id: ConversationId | None = None


class Answer(BaseModel):
    """Structured result of `ask`."""

    response: str = Field(description="Answer of the agent; the text so far if `status` is `input_required`.")
    conversation_id: str = Field(description="Id that continues this conversation when sent with the next message.")
    steps: list[ToolCall] | None = Field(
        None, description="Tool calls that the answer is based on, in the order in which they began. Absent if none."
    )
    stop_reason: str | None = Field(None, description="Why the answer was cut short. Absent if it was not.")
    warning: str | None = Field(
        None,
        description="Why the answer was not saved in the conversation, or was made without its earlier messages.",
    )
    status: Literal["input_required"] | None = Field(
        None, description="`input_required` if tool calls wait for the approval of a person. Otherwise absent."
    )
    approvals: list[Approval] | None = Field(None, description="Tool calls that wait for an approval. Absent if none.")

    @classmethod
    def of(cls, reply: Reply) -> Self:
        """Return the structured result of a reply."""
        return cls(
            response=reply.text,
            conversation_id=reply.conversation_id,
            steps=None if reply.steps is None else [ToolCall.model_validate(step) for step in reply.steps],
            stop_reason=None if reply.waiting else reply.usage.cut,
            warning=reply.warning,
            status="input_required" if reply.waiting else None,
            approvals=[Approval.of(call) for call in reply.waiting] or None,
        )


def definition(name: str, description: str | None) -> types.Tool:
    """Return the tool of the agent with this name, and a description of what it does if there is one."""
    what = f"Ask the AI agent {name}, and get its answer."
    return types.Tool(
        name=NAME,
        title=f"Ask {name}",
        description=" ".join(filter(None, (what, description, HOW))),
        input_schema=_schema(Arguments),
        output_schema=_schema(Answer),
    )


def arguments_of(params: types.CallToolRequestParams) -> Arguments:
    """Return the arguments of a call.

    Raises:
        ValueError: if they are not valid. The message is for the model, and does not quote them.
    """
    try:
        return Arguments.model_validate(params.arguments or {})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in error.errors())
        raise ValueError(f"The arguments are not valid: {'; '.join(faults)}.") from None


def result_of(reply: Reply) -> types.CallToolResult:
    """Return the result of a call, structured and as text (MCP, "Structured Content")."""
    answer = Answer.of(reply)
    structured = answer.model_dump(mode="json", exclude_none=True)
    text = types.TextContent(type="text", text=answer.model_dump_json(exclude_none=True))
    return types.CallToolResult(content=[text], structured_content=structured)


def failed(sentence: str) -> types.CallToolResult:
    """Return the result of a call without an answer; the sentence is for the model."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model as it is written: a field without a value is absent, never null.

    Titles are left out: models read the schema, and they only repeat the names.
    """
    schema: dict[str, Any] = _without_null(model.model_json_schema())
    return schema


def _without_null(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: _without_null(value)
        for key, value in schema.items()
        if not (key == "default" and value is None) and not (key == "title" and isinstance(value, str))
    }
    options = [each for each in found.get("anyOf", ()) if each != {"type": "null"}]
    if len(options) == 1:
        del found["anyOf"]
        return {**options[0], **found}
    return found
