"""What a message of A2A asks."""

import pytest
from a2a.types.a2a_pb2 import Message, Part
from a2a.utils.errors import A2AError, ContentTypeNotSupportedError, InvalidParamsError
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from agent_service.compat.a2a.incoming import Asked, Decided, check_context, decisions, question

PNG = b"\x89PNG"


def text(value: str) -> Part:
    return Part(text=value)


def data(value: object) -> Part:
    return Part(data=ParseDict(value, Value()))


def test_the_text_parts_are_the_message() -> None:
    assert question(Message(parts=[text("Grüße"), text("🌍")])) == Asked("Grüße\n🌍")


def test_an_image_is_a_block_beside_the_text() -> None:
    asked = question(Message(parts=[text("What is this?"), Part(raw=PNG, media_type="image/png; q=1")]))

    assert asked.text == "What is this?"
    assert asked.content == (
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
    )


def test_an_image_may_be_a_link() -> None:
    part = Part(url="https://pictures.example/a.png", media_type="image/png")

    _, image = question(Message(parts=[text("?"), part])).content

    assert image == {"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.png"}}


def test_metadata_can_have_further_instructions() -> None:
    message = Message(parts=[text("Hello")])
    message.metadata["system"] = "Answer in French."

    assert question(message).instructions == "Answer in French."


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (Part(raw=b"%PDF", media_type="application/pdf"), ContentTypeNotSupportedError),
        (Part(raw=b"?"), ContentTypeNotSupportedError),
        (Part(raw=b"words", media_type="text/plain"), ContentTypeNotSupportedError),
        (Part(url="https://files.example/a.mp3", media_type="audio/mpeg"), ContentTypeNotSupportedError),
        (data({"a": 1}), ContentTypeNotSupportedError),
        (Part(url="http://10.0.0.1/a.png", media_type="image/png"), InvalidParamsError),
        (text("nul \0"), InvalidParamsError),
    ],
)
def test_other_parts_are_refused(part: Part, error: type[A2AError]) -> None:
    with pytest.raises(error):
        question(Message(parts=[text("Hello"), part]))


@pytest.mark.parametrize("parts", [[text(" \n")], [Part(raw=PNG, media_type="image/png")]])
def test_a_message_without_text_is_refused(parts: list[Part]) -> None:
    with pytest.raises(InvalidParamsError, match="text part"):
        question(Message(parts=parts))


@pytest.mark.parametrize("system", [1, "\0", {"a": "b"}])
def test_instructions_that_are_no_text_are_refused(system: object) -> None:
    message = Message(parts=[text("Hello")])
    message.metadata.update({"system": system})

    with pytest.raises(InvalidParamsError, match=r"metadata\.system"):
        question(message)


def test_data_parts_decide_on_calls() -> None:
    parts = [data({"id": "t.1", "approve": True}), data({"id": "t.2", "approve": False, "reason": "too dear"})]

    assert decisions(Message(parts=parts)) == [Decided("t.1", approve=True), Decided("t.2", False, "too dear")]


@pytest.mark.parametrize(
    "parts",
    [
        [text("yes")],
        [text("yes"), data({"id": "t.1", "approve": True})],
        [data({"id": "t.1", "approve": "yes"})],
        [data({"approve": True})],
        [data([True])],
        [data({"id": "t.1", "approve": False, "reason": "x" * 2001})],
        [data({"id": "t" * 65, "approve": False})],
    ],
)
def test_a_message_that_decides_nothing_is_refused(parts: list[Part]) -> None:
    with pytest.raises(InvalidParamsError):
        decisions(Message(parts=parts))


def test_a_context_is_new_or_has_the_form_of_our_ids() -> None:
    check_context("")
    check_context("9b2c4d6e-0000-4000-8000-0123456789ab")
    for other in ("../x", "9B2C4D6E-0000-4000-8000-0123456789AB", "9b2c4d6e-0000-4000-8000-0123456789ab:*"):
        with pytest.raises(InvalidParamsError, match="contextId"):
            check_context(other)
