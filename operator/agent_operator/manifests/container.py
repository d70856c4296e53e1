"""Parts that all containers of a pod have in the same form: image, variables, mounts and resources."""

from collections.abc import Iterable, Mapping
from typing import Any

from agent_operator import __version__
from agent_operator.api.base import Model
from agent_operator.api.core_v1 import EnvVar, Resources
from agent_operator.api.spec import Image
from agent_operator.manifests.document import Document, without_empty


def image_reference(image: Image) -> str:
    """Return the image reference for the container runtime; a digest takes precedence over a tag."""
    if image.digest is not None:
        return f"{image.repository}@{image.digest}"
    return f"{image.repository}:{image.tag or __version__}"


def amounts(resources: Resources) -> Document:
    """Return the amounts as text, the only form in which the API server returns them."""
    return without_empty(
        {
            kind: {name: str(amount) for name, amount in (given or {}).items()}
            for kind, given in (("requests", resources.requests), ("limits", resources.limits))
        }
    )


def as_written(models: Iterable[Model] | None) -> list[dict[str, Any]]:
    """Return the models in the form in which they were written."""
    return [model.model_dump(by_alias=True, exclude_none=True) for model in models or []]


def variables(ours: Mapping[str, str], given: Iterable[EnvVar] | None = None) -> list[Document]:
    """Return the variables of a container of the user's: those of Portside, which the user's replace, and the user's.

    Those of Portside are in alphabetical order, as a template of the chart iterates.
    """
    written = as_written(given)
    replaced = {each["name"] for each in written}
    return [*({"name": name, "value": ours[name]} for name in sorted(ours.keys() - replaced)), *written]


def tcp_probe(port: int, **timing: int) -> Document:
    """Return a probe that connects to the port; `timing` has the fields of core/v1, Probe."""
    return {"tcpSocket": {"port": port}, **timing}


def http_probe(path: str, port: int | str, **timing: int) -> Document:
    """Return a probe that requests the path; `timing` has the fields of core/v1, Probe."""
    return {"httpGet": {"path": path, "port": port}, **timing}
