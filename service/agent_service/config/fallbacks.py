"""The fallbacks of the model's provider: the setting MODEL_FALLBACKS, a JSON list as `agent.fallbacks` of the spec."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent_service.config.issuers import fault_line
from agent_service.config.providers import SECRETS_OF, ProviderSettings, missing_credential, provider_faults
from agent_service.config.values import check_with_yarl, valid_key, valid_service_account_key
from agent_service.network.addresses import model_api_address

MOST_FALLBACKS = 4

_Text = Annotated[str, Field(min_length=1, max_length=512)]
_Price = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=6, allow_inf_nan=False)]
# A folder below SECRETS_DIR, not another one.
_Folder = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class _Bedrock(_Part):
    region: _Text
    api: Literal["invoke", "messages"] = "invoke"
    base_url: _Text | None = None
    model_ids: dict[str, _Text] = {}


class _Vertex(_Part):
    project: _Text
    region: _Text
    base_url: _Text | None = None
    model_ids: dict[str, _Text] = {}


class _Foundry(_Part):
    resource: _Text | None = None
    base_url: _Text | None = None
    model_ids: dict[str, _Text] = {}


class _Prices(_Part):
    input: _Price
    output: _Price
    cache_write: _Price | None = None
    cache_read: _Price | None = None


class Fallback(_Part):
    """A provider that is asked when those before it do not answer.

    `model` answers in place of the agent's, None for the same; the block of the provider says where it is.
    `secrets_dir` is the folder of its credentials in SECRETS_DIR; without one, they are those of the settings, and for
    the agent's own provider its workload identity. `prices` are those of a million tokens. `name` is its label in
    metrics and logs.
    """

    provider: Literal["anthropic", "bedrock", "vertex", "foundry"]
    model: _Text | None = None
    base_url: _Text | None = None
    bedrock: _Bedrock | None = None
    vertex: _Vertex | None = None
    foundry: _Foundry | None = None
    secrets_dir: _Folder | None = None
    prices: _Prices | None = None
    name: Annotated[str, Field(exclude=True)] = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("bedrock", "vertex", "foundry"):
            if (getattr(self, name) is not None) != (self.provider == name):
                raise ValueError(f"provider {self.provider} and the block {name} do not belong together")
        if self.base_url is not None and self.provider != "anthropic":
            raise ValueError("baseUrl is for the provider anthropic; set it in the block of the provider")
        for address in (self.base_url, getattr(self._block, "base_url", None)):
            if address is not None:
                check_with_yarl(model_api_address(address)[0])
        return self

    @property
    def _block(self) -> _Bedrock | _Vertex | _Foundry | None:
        return self.bedrock or self.vertex or self.foundry

    def settings(self, of_agent: Any) -> dict[str, Any]:
        """Return the settings of the provider, by name, in place of those of the agent.

        Raises:
            ValueError: when a file of its credentials cannot be used; the message has one line for each.
        """
        block = self._block
        found: dict[str, Any] = {
            "model_provider": self.provider,
            "default_model": self.model or of_agent.default_model,
            "model_ids": {} if block is None else block.model_ids,
        }
        if self.provider == "anthropic":
            found["anthropic_base_url"] = self.base_url or of_agent.anthropic_base_url
        elif block is not None:
            values = block.model_dump(exclude={"model_ids"})
            found |= {f"{self.provider}_{name}": value for name, value in values.items()}
        if self.secrets_dir is not None or self.provider != of_agent.model_provider:
            # The token of the pod is for the agent's provider.
            found["identity_token_file"] = None
        if self.secrets_dir is not None and of_agent.secrets_dir is not None:
            folder = of_agent.secrets_dir / self.secrets_dir
            found |= {"secrets_dir": folder, **_secrets(folder, SECRETS_OF[self.provider])}
        return found


_FALLBACKS = TypeAdapter(Annotated[tuple[Fallback, ...], Field(max_length=MOST_FALLBACKS)])


def read_fallbacks(value: object, provider: str) -> tuple[Fallback, ...]:
    """Return the fallbacks of an agent whose own provider is `provider`.

    Args:
        value: JSON text, or what it contains.
        provider: provider of the agent.

    Raises:
        ValueError: if there are faults; the message has one line for each, without values.
    """
    try:
        found = _FALLBACKS.validate_python(orjson.loads(value) if isinstance(value, str | bytes) else value)
    except orjson.JSONDecodeError:
        raise ValueError("must be a JSON list of objects with a `provider`") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise ValueError("\n".join(dict.fromkeys(map(fault_line, faults)))) from None
    if len({fallback.model_dump_json(exclude={"secrets_dir"}) for fallback in found}) < len(found):
        raise ValueError("two entries are the same; remove one of them")
    return _named(found, provider)


def _named(fallbacks: Sequence[Fallback], provider: str) -> tuple[Fallback, ...]:
    """Return fallbacks with names that distinguish them: the second one of a provider is `bedrock-2`."""
    seen, named = Counter([provider]), []
    for fallback in fallbacks:
        seen[fallback.provider] += 1
        number = seen[fallback.provider]
        name = fallback.provider if number == 1 else f"{fallback.provider}-{number}"
        named.append(fallback.model_copy(update={"name": name}))
    return tuple(named)


def fallback_faults(fallbacks: Sequence[Fallback], of_agent: Any, *, needs_prices: bool) -> list[str]:
    """Return what the fallbacks lack, one line for each fault. `needs_prices` is whether there is a budget of cost."""
    if fallbacks and of_agent.model_provider == "echo":
        return ["MODEL_FALLBACKS: MODEL_PROVIDER=echo always answers; remove them"]
    missing = missing_credential(of_agent)
    if fallbacks and missing is not None and of_agent.runtime_url is not None:
        # Without fallbacks, a runtime may have access of its own to a model.
        return [f"{missing}: is not set; with MODEL_FALLBACKS, MODEL_PROVIDER={of_agent.model_provider} needs it"]
    faults = []
    for number, fallback in enumerate(fallbacks):
        where = f"MODEL_FALLBACKS: [{number}]"
        if needs_prices and fallback.prices is None and fallback.model not in {None, of_agent.default_model}:
            faults.append(f"{where}: requires prices of its model, as there is a budget of cost")
        if fallback.secrets_dir is not None and of_agent.secrets_dir is None:
            faults.append(f"{where}: secretsDir is a folder in SECRETS_DIR, which is not set")
        try:
            derived: ProviderSettings = of_agent.model_copy(update={**fallback.settings(of_agent), "runtime_url": None})
        except ValueError as error:
            faults += [f"{where}: {line}" for line in str(error).splitlines()]
            continue
        faults += [f"{where}: {fault}" for fault in provider_faults(derived)]
    return faults


def _secrets(folder: Path, names: Sequence[str]) -> Mapping[str, SecretStr | None]:
    """Return the credentials in a folder; None for those that it does not have."""
    found: dict[str, SecretStr | None] = {}
    for name in names:
        try:
            text = (folder / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            found[name.lower()] = None
            continue
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{name}: its file in secretsDir cannot be read") from None
        try:
            found[name.lower()] = SecretStr(_VALID.get(name, valid_key)(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _service_account_key(text: str) -> str:
    valid_service_account_key(text)
    return text


_VALID = {"GOOGLE_SERVICE_ACCOUNT_KEY": _service_account_key}
