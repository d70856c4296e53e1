"""Model and key of an agent from kagent's ModelConfig."""

from agent_operator.tools.importing.belongings import Belongings
from agent_operator.tools.importing.draft import Draft, object_of, text_of

# kagent's own default (go/api/v1alpha2/agent_types.go, DeclarativeAgentSpec.modelConfig).
DEFAULT_CONFIG = "default-model-config"
KEY_SECRET = "anthropic"  # noqa: S105  the name of a Secret
_CONVERTED = {"model", "provider", "apiKeySecret", "apiKeySecretKey", "anthropic"}
_ADVICE = {
    "apiKeyPassthrough": "the agent has one key for all its clients: set apiKey, and auth for the clients",
    "defaultHeaders": "the agent sends no further headers: add them in a gateway, and set agent.baseUrl to it",
    "tls": "put a gateway with a public certificate in front of the model API, and set agent.baseUrl to it",
}


def convert_model(draft: Draft, name: str, around: Belongings) -> None:
    """Put the model of a ModelConfig and the reference to its key into the draft."""
    chosen = name or DEFAULT_CONFIG
    config = around.named("ModelConfig", draft.namespace, chosen)
    source = f"ModelConfig/{chosen}"
    if config is None:
        draft.lost(
            "spec.declarative.modelConfig",
            f"{source} was not found: add it to the files, or set agent.model and apiKey yourself",
        )
        _placeholder(draft, "spec.declarative.modelConfig")
        return
    spec = object_of(config.get("spec"))
    # kagent's default provider.
    provider = text_of(spec.get("provider")) or "OpenAI"
    if provider != "Anthropic":
        draft.lost(
            f"{source}: spec.provider",
            f"the built-in agent calls Claude, not {provider}: choose a model of Claude in agent.model, or call the "
            "model from a runtime",
        )
        _placeholder(draft, f"{source}: spec.apiKeySecret")
        return
    draft.put("agent.model", spec.get("model"), f"{source}: spec.model")
    draft.put("apiKey.secretName", spec.get("apiKeySecret"), f"{source}: spec.apiKeySecret")
    draft.put("apiKey.secretKey", spec.get("apiKeySecretKey"), f"{source}: spec.apiKeySecretKey")
    anthropic = object_of(spec.get("anthropic"))
    draft.put("agent.baseUrl", anthropic.get("baseUrl"), f"{source}: spec.anthropic.baseUrl")
    draft.put("agent.maxTokens", anthropic.get("maxTokens"), f"{source}: spec.anthropic.maxTokens")
    for field in sorted(anthropic.keys() - {"baseUrl", "maxTokens"}):
        draft.lost(f"{source}: spec.anthropic.{field}", "the agent uses the default of the model API")
    for field, value in spec.items():
        if field not in _CONVERTED and value:
            draft.lost(f"{source}: spec.{field}", _ADVICE.get(field, "an AgentDeployment has no such field"))
    if not spec.get("apiKeySecret"):
        _placeholder(draft, f"{source}: spec.apiKeySecret")


def _placeholder(draft: Draft, source: str) -> None:
    """Refer to a Secret that the user has to create: an agent without a runtime needs a key."""
    draft.put("apiKey.secretName", KEY_SECRET, source)
    draft.note(
        source,
        f"create the Secret {KEY_SECRET} with a key of Claude (`kubectl create secret generic {KEY_SECRET} "
        "--from-literal=ANTHROPIC_API_KEY=…`), or set apiKey.secretName to the one that you have",
    )
