"""The address of an MCP server that another product runs, from the object that describes it. Pure.

Each product publishes its servers in its own way (from their sources, at the commits in tests/support/mcp_servers):

- ToolHive `MCPServer`: a proxy behind the Service `mcp-NAME-proxy`, on `spec.proxyPort`. It speaks streamable HTTP at
  /mcp, unless `transport`, or for stdio `proxyMode`, is SSE. `status.url` is written once, with the host.
- kmcp `MCPServer`: the Service NAME, on `spec.deployment.port`. For stdio, its adapter serves /mcp; for HTTP, the
  program serves `spec.httpTransport.path`.
- kagent `RemoteMCPServer`: the address is `spec.url`. `spec.protocol` is the transport, and `spec.allowedNamespaces`
  lists who may refer to it.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from agent_operator.api.addresses import http_address
from agent_operator.api.mcp import ServerRef, ToolAddress
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document

TOOLHIVE, KAGENT = "toolhive.stacklok.dev", "kagent.dev"
# The versions of each kind, the preferred one first. The fields that are read are the same in all of them.
VERSIONS: Mapping[tuple[str, str], tuple[Resource, ...]] = {
    (TOOLHIVE, "MCPServer"): tuple(
        Resource("MCPServer", TOOLHIVE, version, "mcpservers") for version in ("v1beta1", "v1alpha1")
    ),
    (KAGENT, "MCPServer"): (Resource("MCPServer", KAGENT, "v1alpha1", "mcpservers"),),
    (KAGENT, "RemoteMCPServer"): tuple(
        Resource("RemoteMCPServer", KAGENT, version, "remotemcpservers") for version in ("v1alpha2", "v1alpha3")
    ),
}
# Defaults of the definitions, for objects that were written before the fields existed.
_TOOLHIVE_PORT = 8080
_KMCP_PORT = 3000
_PATH = "/mcp"

_ADDRESS: TypeAdapter[str] = TypeAdapter(ToolAddress)
_URL_PATH = re.compile(r"/[!-~]*")


class UnresolvedError(Exception):
    """A reference that has no usable address. The message is the rest of a sentence about the object."""


def address_of(reference: ServerRef, document: Document, namespace: str) -> str:
    """Return the address of the server.

    Args:
        reference: the reference of the agent.
        document: the object that it refers to.
        namespace: the namespace of the agent.

    Raises UnresolvedError.
    """
    if reference.kind == "RemoteMCPServer":
        address = _of_remote_server(document, namespace)
    else:
        address = _of_toolhive(document) if reference.group == TOOLHIVE else _of_kmcp(document)
    try:
        http_address(address.partition("?")[0])
        return _ADDRESS.validate_python(address, strict=True)
    except ValueError:
        raise UnresolvedError(
            "has no address of the form http://host:port/path or https://host:port/path: correct it, or write mcp.url"
        ) from None


def _of_toolhive(document: Document) -> str:
    spec = _mapping(document.get("spec"))
    transport = spec.get("transport") or "stdio"
    served = (spec.get("proxyMode") or "streamable-http") if transport == "stdio" else transport
    if served != "streamable-http":
        field = "proxyMode" if transport == "stdio" else "transport"
        raise UnresolvedError(
            f"uses the transport {served}, which Portside does not speak: set its {field} to streamable-http"
        )
    known = str(_mapping(document.get("status")).get("url") or "")
    host = _host(known)
    if not host:
        raise UnresolvedError("has no status.url yet: check that the operator of ToolHive runs")
    # The port in the status is that of the object's first version.
    return f"http://{host}:{spec.get('proxyPort') or spec.get('port') or _TOOLHIVE_PORT}{_PATH}"


def _of_kmcp(document: Document) -> str:
    metadata, spec = document["metadata"], _mapping(document.get("spec"))
    transport, path = spec.get("transportType"), _PATH
    if transport not in {"stdio", "http"}:
        raise UnresolvedError("has no transportType, so kmcp does not start it: set it to http or stdio")
    if transport == "http":
        http = _mapping(spec.get("httpTransport"))
        if http.get("tls"):
            raise UnresolvedError("sets httpTransport.tls, which Portside does not read: write mcp.url")
        path = str(http.get("path") or _PATH)
        if not _URL_PATH.fullmatch(path):
            raise UnresolvedError("has an httpTransport.path that is not a URL path: correct it")
    port = _mapping(spec.get("deployment")).get("port") or _KMCP_PORT
    return f"http://{metadata['name']}.{metadata['namespace']}.svc:{port}{path}"


def _of_remote_server(document: Document, namespace: str) -> str:
    spec = _mapping(document.get("spec"))
    allowed = _mapping(spec.get("allowedNamespaces")).get("from") or "Same"
    if document["metadata"]["namespace"] != namespace and allowed != "All":
        what = "by label, which Portside does not read" if allowed == "Selector" else "of its own namespace only"
        raise UnresolvedError(f"allows references {what} (spec.allowedNamespaces): set from to All, or write mcp.url")
    protocol = spec.get("protocol") or "STREAMABLE_HTTP"
    if protocol != "STREAMABLE_HTTP":
        raise UnresolvedError(
            f"uses the protocol {protocol}, which Portside does not speak: set its protocol to STREAMABLE_HTTP"
        )
    return str(spec.get("url") or "")


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
