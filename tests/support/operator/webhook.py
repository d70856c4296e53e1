"""An admission webhook on loopback (Kubernetes: "Dynamic Admission Control") with verdicts set by a test."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from support.eventually import eventually
from support.operator import Namespace
from support.operator.serving import authority_in, serving
from testbed.errors import TestbedError

# The probe that shows whether the API server calls the webhook.
PROBE = "portside-webhook-probe"


@dataclass(frozen=True)
class Verdict:
    """The webhook's response: refused with a message, or allowed with a JSON patch (RFC 6902); after a delay."""

    refusal: str | None = None
    patch: list[dict[str, Any]] = field(default_factory=list)
    wait: float = 0.0


Judge = Callable[[dict[str, Any]], Verdict]


class Webhook:
    """Answers AdmissionReviews with `judge`, which takes the `request` of each; `asked` records them all, in order."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.asked: list[dict[str, Any]] = []
        self.probes = 0

    def asked_about(self, name: str) -> int:
        """Return how often it was called for writes, not reads, of the object of that name."""
        return sum(each["name"] == name and not each.get("dryRun") for each in list(self.asked))

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer one review."""
        request = json.loads(await incoming.read())["request"]
        if request["name"] == PROBE:
            self.probes += 1
            return _answer(request, Verdict())
        self.asked.append(request)
        verdict = self._judge(request)
        await asyncio.sleep(verdict.wait)
        return _answer(request, verdict)


def _answer(request: dict[str, Any], verdict: Verdict) -> web.Response:
    response: dict[str, Any] = {"uid": request["uid"], "allowed": verdict.refusal is None}
    if verdict.refusal is not None:
        response["status"] = {"code": 403, "message": verdict.refusal}
    elif verdict.patch:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(verdict.patch).encode()).decode()}
    return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})


@contextmanager
def webhook(
    here: Namespace,
    folder: Path,
    resource: Literal["configmaps", "services"],
    judge: Judge,
    *,
    mutating: bool = False,
    timeout_seconds: int = 10,
) -> Iterator[Webhook]:
    """Send every write of that resource in the namespace to the webhook, from the first line of the body to its end."""
    hook = Webhook(judge)
    authority = authority_in(folder)
    with serving(hook.handle, authority) as port:
        document = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration" if mutating else "ValidatingWebhookConfiguration",
            "metadata": {"name": f"portside-{here.name}-{resource}"},
            "webhooks": [
                {
                    "name": "judge.test.portside.dev",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "failurePolicy": "Fail",
                    "timeoutSeconds": timeout_seconds,
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{port}/",
                        "caBundle": base64.b64encode(authority.certificate.read_bytes()).decode(),
                    },
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here.name}},
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": [resource],
                        }
                    ],
                }
            ],
        }
        text = json.dumps(document)
        here.kubectl("apply", "-f", "-", stdin=text)
        try:
            eventually(lambda: _is_asked(here, hook, resource), "the API server asks the webhook")
            yield hook
        finally:
            here.kubectl("delete", "-f", "-", stdin=text)
            eventually(lambda: not _is_asked(here, hook, resource), "the API server asks the webhook no more")


def _is_asked(here: Namespace, hook: Webhook, resource: str) -> bool:
    before = hook.probes
    create = ["configmap"] if resource == "configmaps" else ["service", "clusterip", "--tcp=80"]
    try:
        here.kubectl("create", *create[:2], PROBE, *create[2:], "--dry-run=server")
    except TestbedError:
        return True
    return hook.probes > before
