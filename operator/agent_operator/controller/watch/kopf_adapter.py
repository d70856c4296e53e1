"""Adapter for kopf, which lists, watches, keeps its connection and passes on events. It writes nothing.

Only `on.event` is used: it neither annotates objects nor needs a finalizer.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from types import CoroutineType
from typing import Any, Self, cast

import aiohttp
import kopf
import structlog
from kopf._cogs.clients import scanning

from agent_operator import __version__
from agent_operator.controller.signals import cancel_on_signals
from agent_operator.controller.watch.progress import RENEWALS, Watches
from agent_operator.kube.bodies import decode_answer, lines_within_bounds
from agent_operator.kube.connection import configuration
from agent_operator.kube.reader import PAGE
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 60
CONNECT_SECONDS = 10
IDLE_SECONDS = 0.1
# Seconds between retries of one request. After the last one the watch or kopf is restarted; the process does not exit.
BACKOFF_SECONDS = (1, 1, 2, 3, 5, 5, 5, 5, 5)

# kopf allows its watches two seconds to deliver pending events.
END_SECONDS = 10.0

# Seconds between logins while credentials keep being refused.
LOGIN_SECONDS = 5.0

OnEvent = Callable[[str, bool, Document], None]
"""Called for every event with the kind, whether the object still exists, and the object."""


async def watch(
    resources: Sequence[Resource],
    namespaces: Sequence[str],
    on_event: OnEvent,
    watches: Watches,
    *,
    listed_again: Callable[[], None],
    until: asyncio.Event,
    main: "asyncio.Task[Any]",
) -> None:
    """Watch these kinds until the event `until` is set. Raises errors that kopf cannot recover from.

    The progress of the watches is recorded in `watches`. `main` is cancelled on signals: kopf would stop only itself.
    """
    watches.expect(resources, namespaces)
    tasks = await kopf.spawn_tasks(
        registry=_registry(resources, on_event, watches.tracing(listed_again)),
        settings=_settings(resources, watches.silence),
        clusterwide=not namespaces,
        namespaces=namespaces,
        # By default kopf derives it from the user's name, which a container's numeric user lacks.
        identity=cast("Any", "agent-operator"),
    )
    cancel_on_signals(main)
    # Not kopf.run_tasks: on exit it cancels every task of the process that started after kopf, including ours.
    all_of_it = [*tasks, asyncio.create_task(until.wait())]
    try:
        done, _ = await asyncio.wait(all_of_it, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # kopf does not cancel the requests of its first scan, which would log a traceback once its session is closed.
        all_of_it += filter(_is_scan, asyncio.all_tasks())
        for task in all_of_it:
            task.cancel()
        await asyncio.wait(all_of_it)
        await _end_what_is_left()
    for task in done:
        task.result()


def _is_scan(task: "asyncio.Task[Any]") -> bool:
    coroutine = task.get_coro()
    return isinstance(coroutine, CoroutineType) and coroutine.cr_code.co_filename == scanning.__file__


async def _end_what_is_left() -> None:
    """Cancel the watches that kopf leaves behind when one of its tasks fails.

    Cancels only those: they stop their own helper tasks, and miss their cancellation if the helpers are cancelled too.
    """
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=END_SECONDS)


def _registry(resources: Iterable[Resource], on_event: OnEvent, trace: aiohttp.TraceConfig) -> kopf.OperatorRegistry:
    """Return the handlers: one per watched kind that passes on its events, and the login, with a traced session."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_Login(trace).login)
    for resource in resources:
        pass_on = partial(_pass_on, on_event, resource.kind)
        kopf.on.event(resource.group, resource.version, resource.plural, id=resource.plural, registry=handlers)(pass_on)
    return handlers


def _settings(resources: Iterable[Resource], silence: float) -> kopf.OperatorSettings:
    """Return kopf's settings: bounded waits, nothing scanned or posted, lists filtered by the server.

    A watch that delivers nothing for `silence` seconds, not even a bookmark, is restarted.
    """
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.posting.enabled = False
    chosen.networking.request_timeout = REQUEST_SECONDS
    chosen.networking.connect_timeout = CONNECT_SECONDS
    chosen.networking.error_backoffs = BACKOFF_SECONDS
    chosen.watching.connect_timeout = CONNECT_SECONDS
    chosen.watching.inactivity_timeout = silence
    chosen.watching.chunk_size = PAGE
    chosen.watching.server_timeout = int(RENEWALS * silence)
    chosen.watching.client_timeout = RENEWALS * silence + CONNECT_SECONDS
    # Each object keeps its own task for this long after its last event: with the default they take 80 MB at startup.
    chosen.queueing.idle_timeout = IDLE_SECONDS
    chosen.persistence.diffbase_storage = _NoMemory()
    for resource in resources:
        if resource.selector is not None:
            chosen.watching.label_selectors[resource.group, resource.version, resource.plural] = resource.selector
    return chosen


class _NoMemory(kopf.DiffBaseStorage):
    """A storage that stores nothing.

    kopf copies each object twice to detect changes since it was last handled, which no handler here uses.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


async def _pass_on(on_event: OnEvent, kind: str, *, event: kopf.RawEvent, **_: Any) -> None:
    document: Document = dict(event["object"])
    on_event(kind, event["type"] != "DELETED", document)


class _Login:
    """Logs in to the same cluster and with the same credentials as our own connection, with a traced session.

    Credentials that are refused are read again without limit: a fresh token may arrive late.
    """

    def __init__(self, trace: aiohttp.TraceConfig) -> None:
        self._trace = trace
        self._last: float | None = None

    async def login(self, **_: Any) -> kopf.AiohttpSession:
        if self._last is not None:
            log.warning("Credentials were refused, and will be read again")
            await asyncio.sleep(self._last + LOGIN_SECONDS - time.monotonic())
        self._last = time.monotonic()
        config = await configuration()
        header = await config.get_api_key_with_prefix("BearerToken", alias="authorization")
        scheme, _space, token = (header or "").rpartition(" ")
        info = kopf.ConnectionInfo(
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
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_ssl_context(info)),
            headers={**info.as_http_headers(), "User-Agent": f"agent-operator/{__version__}"},
            proxy=info.proxy_url,
            # The configuration already has the environment's proxy, with all of NO_PROXY applied.
            trust_env=False,
            trace_configs=[self._trace],
            response_class=_Answer,
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)


class _Answer(aiohttp.ClientResponse):
    """A response to kopf with summaries in place of objects that exceed the bounds (see bodies.py).

    kopf reads lists by `json` and watches by `content.iter_chunked`, and would parse objects of any depth and size.
    """

    # A page may have 75 MB, so only one is decoded at a time.
    _pages = asyncio.Semaphore(1)

    async def start(self, connection: Any) -> Self:
        await super().start(connection)
        if self.status == HTTPStatus.OK and self.url.query.get("watch") == "true":
            self.content = cast("aiohttp.StreamReader", _Lines(self.content))
        return self

    async def json(self, **_: Any) -> Any:
        async with self._pages:
            return await decode_answer(await self.read())


class _Lines:
    """The content of a watch, line by line."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        return lines_within_bounds(self._content.iter_chunked(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def _ssl_context(info: kopf.ConnectionInfo) -> ssl.SSLContext:
    """Return an SSL context without RFC 5280's strict checks.

    Python 3.13 made these checks the default (ssl.VERIFY_X509_STRICT), and the certificate authorities of many clusters
    do not pass them. The chain and the name are still verified, as in Go's clients.
    """
    context = info.as_ssl_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
