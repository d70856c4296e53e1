"""The issuers of tokens: the file of the setting JWT_FILE, with `issuers` as in `auth.jwt` of the spec."""

from pathlib import Path
from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent_service.network.addresses import http_address

_LARGEST_FILE_BYTES = 256 * 1024

# RFC 6749, 3.3.
_Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$")]
# The name of a claim, or the path to it in objects (JSON Pointer, RFC 6901): `/kubernetes.io/namespace`.
_Claim = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,256}$")]


class IssuersFileError(ValueError):
    """JWT_FILE cannot be used. The message has one line per fault, without values from the file."""


def _address(value: str) -> str:
    http_address(value.partition("?")[0])
    return value


class Issuer(BaseModel):
    """An issuer of tokens, and what its tokens must be like."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    issuer: Annotated[str, Field(max_length=2048), AfterValidator(_address)]
    jwks_url: Annotated[str, Field(max_length=2048), AfterValidator(_address)] | None = None
    audiences: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(min_length=1, max_length=16)
    ]
    client_claim: _Claim = "sub"
    tenant_claim: _Claim | None = None
    required_scopes: Annotated[tuple[_Scope, ...], Field(max_length=16)] = ()
    clock_skew_seconds: Annotated[int, Field(ge=0, le=600)] = 60


class _Definition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len({each.issuer for each in self.issuers}) < len(self.issuers):
            raise ValueError("two entries have one issuer; remove one of them")
        return self


def read_issuers(file: Path) -> tuple[Issuer, ...]:
    """Return the issuers of a JWT_FILE.

    Raises:
        IssuersFileError: if the file cannot be read or has faults.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            raise IssuersFileError(f"is larger than {_LARGEST_FILE_BYTES} bytes")
        return parse_issuers(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise IssuersFileError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise IssuersFileError("is not UTF-8 text") from None


def parse_issuers(text: str) -> tuple[Issuer, ...]:
    """Return the issuers of a text in JSON, an object with the list `issuers`.

    Raises:
        IssuersFileError: if the text has faults; the message names each entry and field, and no value.
    """
    try:
        return _Definition.model_validate(orjson.loads(text)).issuers
    except orjson.JSONDecodeError as error:
        raise IssuersFileError(f"is not JSON (line {error.lineno})") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise IssuersFileError("\n".join(dict.fromkeys(map(fault_line, faults)))) from None


def fault_line(fault: Any) -> str:
    """Return a fault as `issuers[0].audiences: what is the matter`."""
    message = str(fault["msg"]).removeprefix("Value error, ").replace("dictionary", "object").replace("tuple", "list")
    message = "is unknown; remove it" if fault["type"] == "extra_forbidden" else message[:1].lower() + message[1:]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    return f"{where.removeprefix('.')}: {message}" if where else message
