"""The definition of an agent's tools: the file of the setting TOOLS_FILE, with `tools` as in the spec of an agent."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent_service.network.addresses import http_address

MOST_ENTRIES = 32
_LARGEST_FILE_BYTES = 1024 * 1024

# Headers that carry the protocol or frame the message: a value of the user's would break it.
_RESERVED_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "last-event-id", "te"}
    | {"mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "traceparent", "transfer-encoding"}
)


class ToolsFileError(ValueError):
    """TOOLS_FILE cannot be used. The message has one line per fault, without values from the file."""


def _usable_address(value: str) -> str:
    http_address(value.partition("?")[0])
    if "#" in value:
        raise ValueError("must not contain `#`")
    return value


def _header_name(value: str) -> str:
    if value.lower() in _RESERVED_HEADERS:
        raise ValueError("is a header that the client of the server sets itself; remove it")
    return value


def _one_line(value: str) -> str:
    if re.search(r"[^\t\x20-\x7e]", value):
        raise ValueError("must be one line of printable ASCII characters")
    return value


def _no_folder(value: str) -> str:
    if value in {".", ".."}:
        raise ValueError("is not the name of a key")
    return value


_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$")]
# The names of a Secret and of its keys (Kubernetes, "ConfigMap and Secret keys"). No `..`: they become a path.
_ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$")]
_KeyName = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$"), AfterValidator(_no_folder)]
_Address = Annotated[str, Field(max_length=2048), AfterValidator(_usable_address)]
_HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"), AfterValidator(_header_name)]
_Path = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)]
_Globs = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(strict=False)]
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    """Part of a definition. An unknown field is an error, because ignoring it could drop a restriction."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)


class SecretKey(_Part):
    """A key of a Secret, which is mounted as a file."""

    name: _ObjectName
    key: _KeyName


class Header(_Part):
    """A header whose value is `prefix` and the content of a key of a Secret."""

    name: _HeaderName
    prefix: Annotated[str, Field(max_length=256), AfterValidator(_one_line)] = ""
    secret_key_ref: SecretKey


class ClientCredentials(_Part):
    """The OAuth grant `client_credentials` (RFC 6749, 4.4)."""

    token_url: _Address
    client_id: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_one_line)] | None = None
    client_id_secret_key_ref: SecretKey | None = None
    client_secret_key_ref: SecretKey
    scopes: Annotated[tuple[str, ...], Field(strict=False, max_length=64)] = ()
    audience: str | None = Field(None, max_length=2048)
    resource: str | None = Field(None, max_length=2048)

    @model_validator(mode="after")
    def _one_id(self) -> Self:
        if (self.client_id is None) == (self.client_id_secret_key_ref is None):
            raise ValueError("must have exactly one of clientId and clientIdSecretKeyRef")
        return self


class Auth(_Part):
    """How the client of a server authenticates itself."""

    client_credentials: ClientCredentials


class Sidecar(_Part):
    """A container beside the agent. The operator uses the other fields; only the address matters here."""

    model_config = ConfigDict(extra="ignore")

    port: _Port = 8090
    path: _Path = "/mcp"


class Code(_Part):
    """A Python file with tools, which runs beside the agent. The operator uses the other fields."""

    model_config = ConfigDict(extra="ignore")

    port: _Port = 8090


class Mcp(_Part):
    """An MCP server over streamable HTTP."""

    url: _Address | None = None
    server_ref: Any = None
    sidecar: Sidecar | None = None
    headers_from: Annotated[tuple[Header, ...], Field(strict=False, max_length=16)] = ()
    auth: Auth | None = None
    forward_caller: bool = False
    allow_link_local: bool = False

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.server_ref is not None:
            raise ValueError("serverRef is resolved by the operator; set url here")
        if (self.url is None) == (self.sidecar is None):
            raise ValueError("must have exactly one of url and sidecar")
        names = [header.name.lower() for header in self.headers_from]
        if len(set(names)) < len(names):
            raise ValueError("headersFrom must not contain a header twice")
        if self.auth is not None and "authorization" in names:
            raise ValueError("auth sets the header Authorization; remove it from headersFrom, or remove auth")
        return self


class Entry(_Part):
    """An entry of `tools`: a server with its tools, or a tool that the model API runs."""

    name: _Name
    mcp: Mcp | None = None
    builtin: Literal["web_search", "web_fetch", "code_execution"] | None = None
    code: Code | None = None
    allow: _Globs = ("*",)
    approve: _Globs = ()
    timeout_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    max_result_bytes: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 256 * 1024
    on_unavailable: Literal["continue", "fail"] = "continue"

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(kind is not None for kind in (self.mcp, self.builtin, self.code)) != 1:
            raise ValueError("must have exactly one of mcp, builtin and code")
        bounds = {"allow", "approve", "timeout_seconds", "max_result_bytes", "on_unavailable"}
        if self.builtin is not None and (given := sorted(self.model_fields_set & bounds)):
            raise ValueError(f"{to_camel(given[0])} does not apply to builtin; remove it")
        return self

    @property
    def url(self) -> str:
        """The address of the server. An entry with `builtin` has none."""
        if self.code is not None:
            return f"http://127.0.0.1:{self.code.port}/mcp"
        if self.mcp is None:
            raise ValueError(f"The entry {self.name} has no server.")
        if self.mcp.sidecar is not None:
            return f"http://127.0.0.1:{self.mcp.sidecar.port}{self.mcp.sidecar.path}"
        return str(self.mcp.url)


class _Definition(_Part):
    tools: Annotated[tuple[Entry, ...], Field(strict=False, max_length=MOST_ENTRIES)] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        seen: set[str] = set()
        kinds: set[str] = set()
        for entry in self.tools:
            if entry.name in seen:
                raise ValueError(f"two entries have the name {entry.name}; rename one of them")
            if entry.builtin is not None and entry.builtin in kinds:
                raise ValueError(f"two entries are the builtin {entry.builtin}; remove one of them")
            seen.add(entry.name)
            kinds.add(entry.builtin or "")
        return self


def read_tools(file: Path) -> tuple[Entry, ...]:
    """Return the entries of a TOOLS_FILE, in their order.

    Raises:
        ToolsFileError: if the file cannot be read or has faults; the message names each entry and field.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            raise ToolsFileError(f"is larger than {_LARGEST_FILE_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ToolsFileError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ToolsFileError("is not UTF-8 text") from None
    return parse_tools(text)


def parse_tools(text: str) -> tuple[Entry, ...]:
    """Return the entries of a text in YAML or JSON: a list, or an object with the list `tools`.

    Raises:
        ToolsFileError: if the text has faults; the message names each entry and field, and no value.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ToolsFileError("is neither YAML nor JSON" + (f" (line {mark.line + 1})" if mark else "")) from None
    if content is None or isinstance(content, list):
        content = {"tools": content or []}
    try:
        return _Definition.model_validate(content).tools
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise ToolsFileError("\n".join(dict.fromkeys(_line(fault, content) for fault in faults))) from None


def _kind(found: re.Match[str]) -> str:
    """Return a type of Python as YAML and JSON call it."""
    return "list" if found[1] == "tuple" else "object"


def _line(fault: Any, content: Any) -> str:
    """Return a fault as `tools[0] (name): mcp.url: what is the matter`."""
    where = [part for part in fault["loc"] if part != "tools"]
    message = re.sub(r"valid (tuple|dictionary).*", _kind, str(fault["msg"]).removeprefix("Value error, "))
    message = "is unknown; remove it" if fault["type"] == "extra_forbidden" else message[:1].lower() + message[1:]
    if not where or not isinstance(where[0], int):
        return f"{'.'.join(map(str, where))}: {message}" if where else message
    entry = content["tools"][where[0]]
    name = entry.get("name") if isinstance(entry, dict) else None
    label = f"tools[{where[0]}]" + (f" ({name:.40})" if isinstance(name, str) and name.isprintable() else "")
    field = ""
    for part in where[1:]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{label}: {field.removeprefix('.')}: {message}" if field else f"{label}: {message}"
