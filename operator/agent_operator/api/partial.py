"""Models with some of the fields of another model, all of them optional, so that a field is defined only once."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from agent_operator.api.base import Model


class _Partial(Model):
    """The base of these models: their descriptions are those of the fields that they copy."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def partial(model: type[Model], *names: str, **parts: type[Model]) -> type[Model]:
    """Return a model with the named fields of `model`, without their defaults and without the rules across fields.

    Args:
        model: the model that defines the fields.
        names: fields that are copied whole.
        parts: fields of which only a part is copied, each with its own partial model.
    """
    fields: dict[str, Any] = {}
    for name in (*names, *parts):
        info = model.model_fields[name]
        # `Annotated` of an annotation takes further metadata, of which a field without any has one without meaning.
        given: Any = parts.get(name) or Annotated[info.annotation, None, *info.metadata]
        copied = Field(
            default=None, alias=info.alias, description=info.description, json_schema_extra=info.json_schema_extra
        )
        fields[name] = (given | None, copied)
    created: type[Model] = create_model(f"{model.__name__}Part", __base__=_Partial, __doc__=model.__doc__, **fields)
    return created
