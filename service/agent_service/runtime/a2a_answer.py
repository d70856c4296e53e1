"""The text of one answer, collected from the events of A2A. Pure.

The answer is the text of messages and of artifacts. Messages of a status are comments on the work, and are part of the
answer only where they replace it: the question of a task that needs input, and the last message of a completed task
without an artifact.
"""

from agent_service.runtime import errors
from agent_service.runtime.a2a_errors import of_state
from agent_service.runtime.a2a_events import COMPLETED, INPUT_REQUIRED, SETTLED, Artifact, Event

MOST_TEXT_BYTES = 2**24
"""Limit of the text of an answer, in characters as well as in bytes of the event or object that contains it."""

# Between two artifacts, or between an artifact and a message.
_BETWEEN = "\n\n"


class Answer:
    """Takes the events of one answer in the order of their arrival, and returns the text that each adds.

    `ended` is whether the task has ended or waits for the user, `waits` whether for a further message. `task_id` is
    None until the agent has sent one.
    """

    def __init__(self) -> None:
        self.task_id: str | None = None
        self.ended = False
        self.waits = False
        self._state: str | None = None
        self._status_message = ""
        self._last_message = ""
        self._any_message = False
        self._shown = _Text()
        self._artifacts: dict[str, _Text] = {}
        self._last_artifact = _Text()

    @property
    def begun(self) -> bool:
        """Whether any text or task has arrived."""
        return self.task_id is not None or bool(self._shown.characters)

    def take(self, event: Event) -> str:
        """Return the text that the event adds to the answer.

        Raises:
            ModelError: the task has failed, or the answer is too large.
        """
        if self.ended:
            return ""
        self.task_id = event.task_id or self.task_id
        self._last_message = event.last_message or self._last_message
        text = "" if event.message is None else self._take_message(event.message)
        for artifact in event.artifacts:
            text += self._take_artifact(artifact)
        if event.state is not None:
            self._state, self._status_message = event.state, event.status_message
            # In 0.3 a status with `final: false` is followed by more.
            if event.state in SETTLED and event.final is not False:
                text += self._settle(event.state)
        return text

    def finish(self) -> str:
        """Return the text that the end of a stream or reply adds. The answer has `ended` if it is complete.

        If it has not, and there is a `task_id`, the agent is still at work on that task.

        Raises:
            ModelError: the task has failed.
        """
        if self.ended:
            return ""
        if self._state is not None and self._state in SETTLED:
            return self._settle(self._state)
        self.ended = self._any_message
        return ""

    def _take_message(self, text: str) -> str:
        self._any_message = True
        # Several messages without an artifact are pieces of one answer.
        return self._show_apart(text) if self._artifacts else self._show(text)

    def _take_artifact(self, artifact: Artifact) -> str:
        if not artifact.text:
            return ""
        known = self._artifacts.get(artifact.id)
        if known is not None and artifact.append:
            known.add(artifact.text)
            return self._show(artifact.text)
        shown = self._show_apart(artifact.text) if known is None else self._show_replaced(str(known), artifact.text)
        self._last_artifact = self._artifacts[artifact.id] = _Text(artifact.text)
        return shown

    def _show_replaced(self, before: str, text: str) -> str:
        """Show an artifact that replaces its former text: by a longer one, or at its end by all that was streamed."""
        if text.startswith(before):
            return self._show(text[len(before) :])
        return "" if _ink(before).startswith(_ink(text)) else self._show_apart(text)

    def _settle(self, state: str) -> str:
        self.ended = True
        shown = bool(self._shown.characters)
        if state == INPUT_REQUIRED:
            self.waits = True
            return self._show_apart(self._status_message or ("" if shown else self._last_message))
        if state == COMPLETED:
            return "" if shown else self._show(self._status_message or self._last_message)
        raise of_state(state, self._status_message)

    def _show_apart(self, text: str) -> str:
        """Show the text after a blank line, unless it repeats all that is shown, or the last artifact."""
        if not self._shown.characters:
            return self._show(text)
        ink = _ink(text)
        repeats = not ink or self._shown.equals(ink) or self._last_artifact.equals(ink)
        return "" if repeats else self._show(_BETWEEN + text)

    def _show(self, text: str) -> str:
        self._shown.add(text)
        if self._shown.characters > MOST_TEXT_BYTES:
            raise errors.too_large(MOST_TEXT_BYTES)
        return text


class _Text:
    """A text in pieces, which is compared with another one without regard to white space."""

    def __init__(self, text: str = "") -> None:
        self.characters = 0
        self._pieces: list[str] = []
        self._ink = 0
        self.add(text)

    def __str__(self) -> str:
        return "".join(self._pieces)

    def add(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self.characters += len(text)
            self._ink += len(_ink(text))

    def equals(self, ink: str) -> bool:
        """Return whether this is the text whose other characters are `ink`. Most differ in length."""
        return self._ink == len(ink) and _ink(str(self)) == ink


def _ink(text: str) -> str:
    """Return the text without its white space."""
    return "".join(text.split())
