"""MCP servers that the agent connects to: by address, by reference, or in a container beside it."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import HARDENED, DnsLabel, EnvSource, EnvVar, ObjectName, Resources, VolumeMount
from agent_operator.api.kubernetes.containers import LongTexts
from agent_operator.api.kubernetes.core import SecurityContext
from agent_operator.api.kubernetes.part import ATOMIC, SET, AsWritten, keyed
from agent_operator.api.networking import Port
from agent_operator.api.rules import Rule
from agent_operator.api.runtime import OUR_PORTS

DEFAULT_PORT = 8090
DEFAULT_PATH = "/mcp"
# Memory of the MCP SDK and a small server.
SERVER_RESOURCES = Resources(requests={"cpu": "10m", "memory": "128Mi"}, limits={"memory": "512Mi"})
PORT_RULE = Rule(
    cel=f"!(self.port in {list(OUR_PORTS)})",
    message="the port of a tool must not be 8000, 8089 or 9090, on which Portside's own container listens: "
    "choose another port",
    holds=lambda tool: tool.port not in OUR_PORTS,
    field="port",
)

# The texts that the service reads are printable ASCII, which Go and Python write as the same JSON.
_Line = Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=512)]
# Without user, fragment, and the ports that no server has.
ToolAddress = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?[.]?|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?"
        r"(/[!-\"$-~]*)?$",
        max_length=2048,
    ),
]
# Headers that carry the protocol or frame the message (the service: config/tools.py).
_RESERVED_HEADERS = (
    *("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "last-event-id", "te"),
    *("mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "traceparent", "transfer-encoding"),
)


class SecretKey(Model):
    """A key of a Secret in the same namespace. The file is mounted in the container of Portside alone, and changes to
    the Secret take effect without a restart."""

    name: ObjectName
    """Name of the Secret."""
    # It becomes the name of a file, which may not begin with two dots (Kubernetes: "Secret", data).
    key: Annotated[
        str,
        StringConstraints(pattern=r"^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$", min_length=1, max_length=253),
    ]
    """Key in the data of the Secret."""


class Header(Model):
    """A header of every request to the server, with a value from a Secret."""

    rules = (
        Rule(
            cel=f"!(self.name.lowerAscii() in {list(_RESERVED_HEADERS)})",
            message="the header is one that the client of the server sets itself: remove it",
            holds=lambda header: header.name.lower() not in _RESERVED_HEADERS,
            field="name",
        ),
    )

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", min_length=1, max_length=128)]
    """Name of the header."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=128)] | None = None
    """Text before the value, such as `Bearer ` with its space."""
    secret_key_ref: SecretKey
    """Key of the Secret that contains the value."""


class ClientCredentials(Model):
    """The OAuth 2.0 grant for clients (RFC 6749, section 4.4). Tokens are renewed before they expire."""

    rules = (
        Rule(
            cel="has(self.clientId) != has(self.clientIdSecretKeyRef)",
            message="set exactly one of clientId and clientIdSecretKeyRef",
            holds=lambda grant: (grant.client_id is None) != (grant.client_id_secret_key_ref is None),
        ),
    )

    token_url: ToolAddress
    """Address of the token endpoint. The NetworkPolicy allows egress to it, as to the server."""
    client_id: _Line | None = None
    """ID of the client."""
    client_id_secret_key_ref: SecretKey | None = None
    """Key of the Secret that contains the ID of the client."""
    client_secret_key_ref: SecretKey
    """Key of the Secret that contains the client's secret."""
    scopes: Annotated[list[_Line], Field(max_length=32, json_schema_extra=SET)] | None = None
    """Scopes that are requested."""
    audience: _Line | None = None
    """Audience that is requested, for authorization servers with this parameter."""
    resource: _Line | None = None
    """Resource that is requested (RFC 8707). Defaults to the address of the server."""


class McpAuth(Model):
    """How Portside authenticates itself to the server."""

    client_credentials: ClientCredentials
    """A token of the OAuth grant client_credentials, sent as Authorization."""


class ServerRef(Model):
    """An object of ToolHive, kmcp or kagent that describes the server. The operator follows changes of its address.
    The chart cannot resolve a reference: write `mcp.url` there."""

    rules = (
        Rule(
            cel="self.kind != 'RemoteMCPServer' || self.group == 'kagent.dev'",
            message="the kind RemoteMCPServer belongs to the group kagent.dev: set group to it, or kind to MCPServer",
            holds=lambda ref: ref.kind != "RemoteMCPServer" or ref.group == "kagent.dev",
            field="group",
        ),
    )

    group: Literal["toolhive.stacklok.dev", "kagent.dev"]
    """API group of the object: `toolhive.stacklok.dev` (ToolHive) or `kagent.dev` (kmcp and kagent)."""
    kind: Literal["MCPServer", "RemoteMCPServer"]
    """Kind of the object: `MCPServer` (ToolHive and kmcp) or `RemoteMCPServer` (kagent)."""
    name: ObjectName
    """Name of the object."""
    namespace: DnsLabel | None = None
    """Namespace of the object. Defaults to that of the agent."""


class ToolSidecar(Model):
    """A container beside the agent that serves MCP over HTTP. It has no token and no Secret of Portside."""

    rules = (PORT_RULE,)

    image: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", min_length=1, max_length=512)]
    """Image of the container, with its tag or digest."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] | None = None
    """When the kubelet pulls the image. Defaults to `Always` for the tag `latest`, and to `IfNotPresent` otherwise."""
    command: LongTexts | None = None
    """Program to run, instead of the entrypoint of the image."""
    args: LongTexts | None = None
    """Arguments of the program, instead of those of the image."""
    env: Annotated[list[EnvVar], Field(max_length=32, json_schema_extra=keyed("name"))] | None = None
    """Environment variables of the container. Portside sets `PORT`, unless it is set here."""
    env_from: Annotated[list[EnvSource], Field(max_length=8, json_schema_extra=ATOMIC)] | None = None
    """ConfigMaps and Secrets whose keys become environment variables of the container."""
    working_dir: Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", min_length=1, max_length=1024)] | None = None
    """Working directory of the program. Defaults to that of the image."""
    port: Port = DEFAULT_PORT
    """Port that the server listens on, on all addresses of the pod. The variable `PORT` contains it."""
    path: Annotated[str, StringConstraints(pattern=r"^/[!-~]*$", min_length=1, max_length=1024)] = DEFAULT_PATH
    """Path of the server's MCP endpoint."""
    resources: Resources = SERVER_RESOURCES
    security_context: Annotated[dict[str, Any], AsWritten(SecurityContext)] = HARDENED
    """Security settings of the container. A value set here replaces the entire default, which meets the restricted Pod
    Security Standard. The container runs as the user of its image, as a runtime does."""
    volume_mounts: Annotated[list[VolumeMount], Field(max_length=16, json_schema_extra=keyed("mountPath"))] | None = (
        None
    )
    """Volumes of `extraVolumes` that are mounted in the container, which has a writable /tmp of its own."""
    startup_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """Seconds that the server has to listen on its port after its start. The agent starts afterwards."""


class Mcp(Model):
    """An MCP server over streamable HTTP."""

    rules = (
        Rule(
            cel="(has(self.url) ? 1 : 0) + (has(self.serverRef) ? 1 : 0) + (has(self.sidecar) ? 1 : 0) == 1",
            message="set exactly one of mcp.url (an address), mcp.serverRef (an object that describes the server) and "
            "mcp.sidecar (a container beside the agent)",
            holds=lambda mcp: [mcp.url, mcp.server_ref, mcp.sidecar].count(None) == 2,  # noqa: PLR2004  all but one
        ),
        Rule(
            cel="(has(self.auth) ? 1 : 0) + (has(self.forwardCaller) && self.forwardCaller ? 1 : 0) "
            "+ (has(self.headersFrom) && self.headersFrom.exists(each, each.name.lowerAscii() == 'authorization') "
            "? 1 : 0) <= 1",
            message="a request has one header Authorization: set only one of mcp.auth, mcp.forwardCaller and the "
            "header Authorization in mcp.headersFrom",
            holds=lambda mcp: (
                [
                    mcp.auth is not None,
                    bool(mcp.forward_caller),
                    any(header.name.lower() == "authorization" for header in mcp.headers_from or []),
                ].count(True)
                <= 1
            ),
        ),
        Rule(
            cel="!has(self.headersFrom) || self.headersFrom.all(each, self.headersFrom.filter(other, "
            "other.name.lowerAscii() == each.name.lowerAscii()).size() == 1)",
            message="two headers in mcp.headersFrom have the same name, in which case does not count: remove one",
            holds=lambda mcp: (
                len({header.name.lower() for header in mcp.headers_from or []}) == len(mcp.headers_from or [])
            ),
            field="headersFrom",
        ),
    )

    url: ToolAddress | None = None
    """Address of the server's MCP endpoint. The NetworkPolicy allows egress to it: to the namespace in a name of the
    form `service.namespace.svc` or `http://service.namespace`, and otherwise to its port at any address."""
    server_ref: ServerRef | None = None
    """An object that describes the server."""
    sidecar: ToolSidecar | None = None
    """A container that contains the server."""
    headers_from: Annotated[list[Header], Field(max_length=16, json_schema_extra=keyed("name"))] | None = None
    """Headers of every request, with values from Secrets."""
    auth: McpAuth | None = None
    """How Portside authenticates itself to the server."""
    forward_caller: bool | None = None
    """Whether the caller's own bearer token is sent as Authorization. If unset, it is not."""
    allow_link_local: bool | None = None
    """Whether the address may be link-local, as those of the metadata services of clouds are. If unset, it may not."""
