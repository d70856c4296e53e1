"""The runtime protocol that the settings select. A protocol is imported only where it is used."""

from agent_service.config.settings import Settings
from agent_service.runtime.connection import Connection
from agent_service.runtime.protocol import RuntimeProtocol


def make_protocol(settings: Settings, url: str) -> RuntimeProtocol:
    """Return the protocol in which the runtime at `url` is called."""
    connection = Connection(url)
    path, health_path = settings.runtime_path, settings.runtime_health_path
    match settings.runtime_protocol:
        case "invocations":
            from agent_service.runtime.invocations import Invocations  # noqa: PLC0415

            return Invocations(connection, path=path, health_path=health_path)
        case "a2a":
            from agent_service.runtime.a2a import A2a  # noqa: PLC0415

            return A2a(connection, path=path, health_path=health_path)
        case "openai":
            from agent_service.runtime.openai import OpenAi  # noqa: PLC0415

            return OpenAi(connection, path=path, health_path=health_path, model=settings.default_model)
        case "http":
            from agent_service.runtime.http import Http  # noqa: PLC0415

            return Http(connection, health_path=health_path)
