"""The single owner of the connection to the Kubernetes API: credentials, timeouts, errors."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client

from agent_operator import __version__
from agent_operator.kube import kubeconfig
from agent_operator.kube.bodies import decode_answer, encode
from agent_operator.kube.errors import ApiError, NoClusterError, NotLeadingError, ProxyFailedError, UnreachableError
from agent_operator.kube.kubeconfig import KubeconfigError, LoginError
from agent_operator.kube.proxy import without_password
from agent_operator.manifests.document import Document

# No response comes after this time: the API server's own limit for requests other than watches is 60 s.
REQUEST_SECONDS = 60
CONNECT_SECONDS = 10
CONNECTIONS = 32
# Minimum wait before a retry, even if the API server asks for an immediate one.
LEAST_WAIT_SECONDS = 1.0


JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Answer:
    """A successful response."""

    code: int
    body: Document


async def configuration() -> client.Configuration:
    """Return the settings of the cluster that this pod runs in, else of the one in KUBECONFIG or ~/.kube/config.

    Raises NoClusterError.
    """
    try:
        if kubeconfig.in_cluster():
            return kubeconfig.load_in_cluster()
        return (await kubeconfig.load(kubeconfig.chosen_files(None))).settings
    except LoginError as error:
        raise NoClusterError(f"Could not log in to the cluster: {error}.") from error
    except KubeconfigError as error:
        raise NoClusterError(
            f"No usable cluster configuration ({error}). "
            "Run the operator in a pod with a service account, or set KUBECONFIG to a file that names a cluster."
        ) from error


class Connection:
    """Requests to the API server. Use as an async context manager.

    `seconds` limits the time until a response, including the waits that the API server asks for. `may_write` is called
    right before each request other than a GET is sent.
    `log_in` returns new credentials for the same cluster when the current ones are refused; None means no new login.
    `connections` is the maximum number of requests at a time; 0 means no limit.
    """

    def __init__(
        self,
        settings: client.Configuration,
        *,
        seconds: float = REQUEST_SECONDS,
        may_write: Callable[[], bool] = lambda: True,
        log_in: Callable[[], Awaitable[client.Configuration]] | None = configuration,
        connections: int = CONNECTIONS,
    ) -> None:
        settings.retries = None
        # For the reason, see the same setting in controller/watch/kopf_adapter.py.
        settings.disable_strict_ssl_verification = True
        self.host: str = settings.host
        self._client = client.ApiClient(settings)
        self._session: aiohttp.ClientSession | None = None
        self._settings = settings
        self._may_write = may_write
        self._log_in = log_in
        self._seconds = seconds
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))

    async def __aenter__(self) -> Self:
        # The client's own session is not used: it writes bodies as ASCII, with escapes that are an error in YAML.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._client.rest_client.ssl_context),
            headers={"User-Agent": f"agent-operator/{__version__}"},
            # With it, aiohttp looks up a proxy and a password (.netrc) in a thread before each request: 15 % of our
            # time. It also does not support networks in NO_PROXY. The settings contain the proxy.
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its response. `headers` are sent in addition to those of the connection.

        Raises ApiError if it is refused, UnreachableError if there is no response, NotLeadingError if it must not be
        sent.
        """
        deadline = time.monotonic() + self._seconds
        logged_in_again = False
        while True:
            try:
                return await self._send(
                    method, path, query, body, content_type=content_type, accept=accept, more=headers or {}
                )
            except ApiError as error:
                if error.code == HTTPStatus.UNAUTHORIZED and self._log_in is not None and not logged_in_again:
                    # A service account's token is replaced each hour, even if the old one expires earlier.
                    await self._log_in_again()
                    logged_in_again = True
                elif error.retry_after is not None and time.monotonic() + error.retry_after < deadline:
                    await asyncio.sleep(error.retry_after * random.uniform(1, 1.25))  # noqa: S311  not secrecy
                else:
                    raise

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of a response to a GET that may take forever, such as that of a log that is followed.

        Raises ApiError if the request is refused, and UnreachableError if the connection fails, also later.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.sock_connect)
        headers = await self._headers("*/*", JSON)
        async with self._response("GET", f"{self.host}{path}?{urlencode(query)}", headers, None, timeout) as response:
            if response.status >= 400:  # noqa: PLR2004  as above
                raise _refusal(response, await decode_answer(await response.read()))
            yield response.content.iter_any()

    async def _log_in_again(self) -> None:
        """Reload the credentials from the files; open connections are kept."""
        assert self._log_in is not None  # noqa: S101  the caller has checked
        try:
            fresh = await self._log_in()
        except NoClusterError as error:
            raise UnreachableError(str(error)) from error
        self._settings.api_key = fresh.api_key
        self._settings.api_key_prefix = fresh.api_key_prefix
        self._settings.refresh_api_key_hook = fresh.refresh_api_key_hook

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Document | None,
        *,
        content_type: str,
        accept: str,
        more: Mapping[str, str],
    ) -> Answer:
        url = f"{self.host}{path}?{urlencode(query)}" if query else f"{self.host}{path}"
        headers = {**more, **await self._headers(accept, content_type)}
        if method != "GET" and not self._may_write():
            raise NotLeadingError(f"{method} {path} was not sent: another operator may be the leader by now")
        data = None if body is None else encode(body)
        async with self._response(method, url, headers, data, self._timeout) as response:
            text = await response.read()
        document = await decode_answer(text)
        if response.status >= 400:  # noqa: PLR2004  HTTP's errors begin here
            raise _refusal(response, document)
        return Answer(response.status, document)

    async def _headers(self, accept: str, content_type: str) -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": content_type}
        token = await self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return headers if token is None else {**headers, "Authorization": token}

    @asynccontextmanager
    async def _response(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None, bounds: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response to one request. Raises UnreachableError for every failure of the connection."""
        assert self._session is not None  # noqa: S101  it is entered
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                timeout=bounds,
                proxy=self._settings.proxy,
                proxy_headers=self._settings.proxy_headers,
                server_hostname=self._settings.tls_server_name or None,
            ) as response:
                yield response
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            # Neither the cluster nor its certificate is at fault.
            raise ProxyFailedError(_proxy_failed(self.host, self._settings.proxy or "", error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            way = f" through the proxy {without_password(self._settings.proxy)}" if self._settings.proxy else ""
            raise UnreachableError(f"{self.host} did not answer{way}: {error or type(error).__name__}") from error


def _refusal(response: aiohttp.ClientResponse, document: Document) -> ApiError:
    return ApiError(
        response.status,
        document.get("reason") or response.reason or "",
        document.get("message") or f"the API server answered {response.status}",
        _causes(document),
        document,
        retry_after=_retry_after(response.status, response.headers),
    )


def _proxy_failed(host: str, proxy: str, error: aiohttp.ClientError) -> str:
    why = (
        f"the proxy answered {error.status}"
        if isinstance(error, aiohttp.ClientHttpProxyError)
        else "the proxy cannot be reached"
    )
    return (
        f"Could not connect to {host} through the proxy {without_password(proxy)}: {why}. The proxy is set in "
        "HTTPS_PROXY or in the kubeconfig. If the cluster is reachable without a proxy, add its address to NO_PROXY"
    )


def _retry_after(code: int, headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait before a retry, if a busy server sends them (RFC 9110, section 10.2.3)."""
    seconds = headers.get("Retry-After", "")
    busy = code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR
    return max(float(seconds), LEAST_WAIT_SECONDS) if busy and seconds.isdecimal() else None


def _causes(status: Document) -> frozenset[str]:
    """Return the reasons of the causes listed in a refusal."""
    causes = (status.get("details") or {}).get("causes") or []
    return frozenset(cause["reason"] for cause in causes if "reason" in cause)
