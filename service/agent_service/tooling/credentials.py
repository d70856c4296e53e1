"""The headers that authenticate us to a tool server."""

from collections.abc import Mapping
from pathlib import Path

from agent_service.config.tools import Mcp
from agent_service.tooling.secrets import CredentialsError, SecretValue
from agent_service.tooling.tokens import Tokens

_AUTHORIZATION = "authorization"

# Shorter values are too likely to occur in a text by chance.
_SHORTEST_SECRET = 8


class Credentials:
    """The credentials of one server: headers from Secrets, a token, or the caller's own token."""

    def __init__(self, server: Mcp | None, folder: Path) -> None:
        """Set up the credentials of `server`; None if it needs none. `folder` is TOOL_SECRETS_DIR."""
        headers = () if server is None else server.headers_from
        self._headers = [(each.name.lower(), each.prefix, SecretValue(folder, each.secret_key_ref)) for each in headers]
        self._forwards = server is not None and server.forward_caller
        self._tokens: Tokens | None = None
        if server is not None and server.auth is not None:
            grant = server.auth.client_credentials
            self._tokens = Tokens(grant, folder, allow_link_local=server.allow_link_local)
        self._values: set[str] = set()

    @property
    def forwards(self) -> bool:
        """Whether a call is made with the caller's own token."""
        return self._forwards

    async def headers(self, caller_token: str | None) -> Mapping[str, str]:
        """Return the headers for a request. `caller_token` is None for requests that no caller caused.

        Raises:
            CredentialsError: if they cannot be had.
        """
        values = {name: (prefix, value.current()) for name, prefix, value in self._headers}
        self._values = {value for _, value in values.values()}
        found = {name: prefix + value for name, (prefix, value) in values.items()}
        if self._forwards and caller_token is not None:
            if not caller_token.isascii() or not caller_token.isprintable():
                raise CredentialsError("the caller's token cannot be sent in a header")
            found[_AUTHORIZATION] = f"Bearer {caller_token}"
        elif self._tokens is not None:
            found[_AUTHORIZATION] = f"Bearer {await self._tokens.current()}"
        return found

    def can_renew(self, used: Mapping[str, str], caller_token: str | None) -> bool:
        """Return whether a request that was refused (401) with the headers `used` can be sent with a new token."""
        authorization = used.get(_AUTHORIZATION, "")
        if self._tokens is None or (self._forwards and caller_token is not None):
            return False
        self._tokens.refused(authorization.removeprefix("Bearer "))
        return True

    def without_secrets(self, text: str, *more: str | None) -> str:
        """Return a text in which each secret in use, and each of `more`, is replaced."""
        known = {*self._values, *(self._tokens.known() if self._tokens else ()), *filter(None, more)}
        for secret in sorted(known, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text
