"""kopf, as a chassis: it lists and watches, keeps its connection, and wakes us. It writes nothing.

Only `on.event` is used: it neither annotates objects nor needs a finalizer.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import kopf

from agent_operator.controller.connection import configuration
from agent_operator.controller.resources import WATCHED
from agent_operator.manifests.form import Document

# The API server ends a watch after this time and kopf begins it anew: no watch can be dead for longer without notice.
WATCH_SECONDS = 300
REQUEST_SECONDS = 60
CONNECT_SECONDS = 10

Heard = Callable[[str, bool, Document], None]
"""Is told of every event: kind, whether the object still is, and the object."""


def registry(heard: Heard) -> kopf.OperatorRegistry:
    """The handlers: one a watched kind, which passes on what it hears, and the login."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)
    for resource in WATCHED:
        pass_on = partial(_pass_on, heard, resource.kind)
        kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=handlers)(pass_on)
    return handlers


def settings() -> kopf.OperatorSettings:
    """kopf's settings: bounded waits, nothing scanned or posted, lists filtered at the server."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.networking.request_timeout = REQUEST_SECONDS
    chosen.networking.connect_timeout = CONNECT_SECONDS
    chosen.watching.connect_timeout = CONNECT_SECONDS
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.client_timeout = WATCH_SECONDS + CONNECT_SECONDS
    for resource in WATCHED:
        if resource.selector is not None:
            chosen.watching.label_selectors[resource.group, resource.version, resource.plural] = resource.selector
    return chosen


async def _pass_on(heard: Heard, kind: str, *, event: kopf.RawEvent, **_: Any) -> None:
    document: Document = dict(event["object"])
    heard(kind, event["type"] != "DELETED", document)


@dataclass(frozen=True, kw_only=True)
class _ConnectionInfo(kopf.ConnectionInfo):
    """A connection that takes the certificates of clusters as they are.

    Python 3.13 made RFC 5280's strict checks the default (ssl.VERIFY_X509_STRICT), which the certificate authorities
    of many clusters do not pass. The chain and the name are verified all the same, as Go's clients do.
    """

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


async def _login(**_: Any) -> kopf.ConnectionInfo:
    """The same cluster and credentials as our own connection has, read anew each time they are refused."""
    config = await configuration()
    header = await config.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _space, token = (header or "").rpartition(" ")
    return _ConnectionInfo(
        server=config.host,
        ca_path=config.ssl_ca_cert,
        ca_data=config.ca_cert_data,
        insecure=not config.verify_ssl,
        username=config.username or None,
        password=config.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=config.cert_file,
        private_key_path=config.key_file,
        proxy_url=config.proxy,
    )
