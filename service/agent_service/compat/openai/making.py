"""The form of a response, for the tools that the agent has."""

from collections.abc import Collection, Mapping
from typing import Any

from agent_service.compat.openai.ids import AnyPlace
from agent_service.compat.openai.output import Output
from agent_service.compat.openai.responses_answer import ResponseForm
from agent_service.components import Components


def make_form(
    components: Components,
    place: AnyPlace,
    more: Mapping[str, Any],
    *,
    client_tools: Collection[str] = (),
    after: int = -1,
) -> ResponseForm:
    """Return the form of a new response. Arguments as of `ResponseForm` and `Output`."""
    toolbox = components.toolbox

    def server_of(name: str) -> str | None:
        found = None if toolbox is None else toolbox.find(name)
        return None if found is None else found.server

    def asks(name: str) -> bool:
        found = None if toolbox is None else toolbox.find(name)
        return found is not None and found.asks

    name = place.response_id()
    output = Output(place, name, client_tools=client_tools, server_of=server_of, asks=asks)
    return ResponseForm(name, components.settings.agent_name, output, more, after=after)
