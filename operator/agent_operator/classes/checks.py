"""The bounds of a class: each field that one bounds, and how.

Each check is data. `bounds` reads it in Python and `class_admission` writes it as CEL, so that the operator and the API
server refuse the same specs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Test = Literal[
    "pattern", "image", "address", "resource", "host", "permitted", "at least", "at most", "amount", "required amount"
]
"""How a value is compared with the bound:

pattern: a text that equals an entry, or begins as one that ends with `*`.
image: an image reference below an entry.
address: an address whose host is an entry, or below the domain of one that begins with `*.`.
resource: a resource of Microsoft Foundry, of whose host the same holds.
host: a host of which the same holds.
permitted: true, where the bound is false.
at least, at most: a number.
amount: amounts by resource name, of which none exceeds the bound's.
required amount: the same, and each amount of the bound must be there.
"""


@dataclass(frozen=True)
class Check:
    """A check of one field by one bound.

    `bound` is relative to `spec.bounds` of the class, and `path` to `spec` of the agent. A segment with `[]` denotes
    a list, the first of them one of named entries; a last one with `{}` denotes the values of a map. `when` has the
    value that other fields of the spec, or of the entry, must have. With `present`, a value that is unset is refused
    too.
    """

    bound: str
    path: str
    test: Test
    sentence: str
    when: Mapping[str, bool] | None = None
    present: bool = False

    @property
    def explanation(self) -> str:
        """The text that follows the field in a message."""
        return f"{self.sentence} (bounds.{self.bound})"


def part_of(path: str) -> str:
    """Return the path of the part of a spec whose resources a path is about: it must be there to lack any."""
    before, _, _ = path.partition("resources.")
    return "worker.resources" if before == "worker." else before.removesuffix(".")


_IMAGE = "is not from a registry that the class allows"
_MODEL = "is not a model that the class allows"
_MODEL_ID = "a model is called by an ID that the class does not allow"
_HOST = "has a host that the class does not allow"
_HOST_NAME = "a host is missing, or is not one that the class allows"
_FEWER = "is less than the minimum of the class"
_MORE = "exceeds the maximum of the class"
_REQUEST = "a request exceeds the maximum of the class"
_LIMIT = "a limit that the class requires is missing, or exceeds its maximum"

FOUNDRY_DOMAIN = ".services.ai.azure.com"
"""What follows the name of a resource in its host (AnthropicFoundry of the SDK)."""

CLOUDS = ("bedrock", "vertex", "foundry")
_PLACES = ("agent", "agent.fallbacks[]")
CONTAINERS = ("", "runtime.", "tools[].mcp.sidecar.", "sidecars[].", "initContainers[].")

_SCALED = {"autoscaling.enabled": True}
_FIXED = {"autoscaling.enabled": False}
_SCALED_WORKERS = {"worker.enabled": True, "worker.autoscaling.enabled": True}
_FIXED_WORKERS = {"worker.enabled": True, "worker.autoscaling.enabled": False}

CHECKS: tuple[Check, ...] = (
    Check("imageRegistries", "image.repository", "image", _IMAGE),
    *(Check("imageRegistries", f"{each}image", "image", _IMAGE) for each in CONTAINERS if each),
    Check("providers", "agent.provider", "pattern", "is not a provider that the class allows"),
    Check("models", "agent.model", "pattern", _MODEL),
    Check("models", "agent.models[]", "pattern", _MODEL),
    Check("providers", "agent.fallbacks[].provider", "pattern", "is not a provider that the class allows"),
    Check("models", "agent.fallbacks[].model", "pattern", _MODEL),
    *(Check("models", f"{parent}.{each}.modelIds{{}}", "pattern", _MODEL_ID) for parent in _PLACES for each in CLOUDS),
    Check("modelHosts", "agent.baseUrl", "address", _HOST),
    *(Check("modelHosts", f"{parent}.{each}.baseUrl", "address", _HOST) for parent in _PLACES for each in CLOUDS),
    *(Check("modelHosts", f"{parent}.foundry.resource", "resource", _HOST) for parent in _PLACES),
    Check("toolHosts", "tools[].mcp.url", "address", _HOST),
    Check("toolHosts", "tools[].mcp.auth.clientCredentials.tokenUrl", "address", _HOST),
    Check("replicas.min", "replicas", "at least", _FEWER, _FIXED),
    Check("replicas.max", "replicas", "at most", _MORE, _FIXED),
    Check("replicas.min", "autoscaling.minReplicas", "at least", _FEWER, _SCALED),
    Check("replicas.max", "autoscaling.maxReplicas", "at most", _MORE, _SCALED),
    Check("replicas.max", "worker.replicas", "at most", _MORE, _FIXED_WORKERS),
    Check("replicas.max", "worker.autoscaling.maxReplicas", "at most", _MORE, _SCALED_WORKERS),
    *(Check("resources.requests", f"{each}resources.requests", "amount", _REQUEST) for each in CONTAINERS),
    Check("resources.requests", "worker.resources.requests", "amount", _REQUEST),
    *(Check("resources.limits", f"{each}resources.limits", "required amount", _LIMIT) for each in CONTAINERS),
    Check("resources.limits", "worker.resources.limits", "required amount", _LIMIT),
    Check("exposure.ingress", "ingress.enabled", "permitted", "an Ingress is not allowed by the class"),
    Check("exposure.httpRoute", "httpRoute.enabled", "permitted", "an HTTPRoute is not allowed by the class"),
    Check("exposure.serviceTypes", "service.type", "pattern", "is not a type that the class allows"),
    Check("exposure.hosts", "ingress.hosts[]", "host", _HOST_NAME, {"ingress.enabled": True}, present=True),
    Check("exposure.hosts", "httpRoute.hostnames[]", "host", _HOST_NAME, {"httpRoute.enabled": True}, present=True),
)

# Bounds of what the service does. A variable of the container takes precedence over the fields of the spec, so the
# variables of these settings are refused, and those from objects that the API server does not see.
OF_SETTINGS = ("providers", "models", "modelHosts", "toolHosts", "budget")
SETTINGS = (
    *("ANTHROPIC_", "AWS_", "AZURE_", "BEDROCK_", "BUDGET_", "DEFAULT_MODEL", "FOUNDRY_", "GATEWAY_", "GOOGLE_"),
    *("IDENTITY_", "MODEL_"),
    *("PRICE_", "REDIS_", "SECRETS_", "STATE_", "TOOLS_", "VERTEX_"),
)
BY_VARIABLE = "this variable would replace a field that the class bounds: use the field"
BY_SOURCE = "variables from objects could replace a field that the class bounds: use extraEnv"
EXTRA_ENV = "extraEnv"
ENV_FROM = "envFrom"

# The budget.
NO_BUDGET = "must be set, as the class bounds it (bounds.budget)"
TOO_LARGE = "exceeds the maximum of the class for a month of 31 days (bounds.budget)"
DOES_NOT_STOP = "must be `stop`, as the class bounds the budget (bounds.budget)"
OTHER_PRICES = "must be the prices of the class, as it bounds the cost (bounds.budget)"
DAYS = 31
BOUNDED_LIMITS = (("tokens", "tokensPerMonth"), ("cost", "costPerMonth"))
"""The limits of a budget and of a share, each with the name of its bound."""
SHARES = ("perClient", "perTenant")
LIMITS = (*(name for name, _ in BOUNDED_LIMITS), *SHARES)
"""The fields of which a budget needs one: prices alone are none."""
