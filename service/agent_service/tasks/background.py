"""Background chats: questions that are answered as tasks in their conversation, so that no connection is needed."""

from dataclasses import replace

from agent_service.chat.approvals import Approvals
from agent_service.chat.conversations import Conversations, new_id
from agent_service.chat.question import Question
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import Submitted
from agent_service.tasks.worker import Worker


class Background:
    """Accepts questions. This process answers them at once if the limits allow; if it ends, any worker goes on."""

    def __init__(self, tasks: Tasks, worker: Worker, conversations: Conversations, approvals: Approvals) -> None:
        self._tasks = tasks
        self._worker = worker
        self._conversations = conversations
        self._approvals = approvals

    async def submit(
        self,
        owner: str,
        question: Question,
        *,
        traceparent: str = "",
        idempotency_key: str = "",
        takes_unknown_id: bool = False,
        has_tokens: bool = False,
    ) -> Submitted:
        """Accept a question of `owner`, and return its task.

        An unknown conversation id starts a new conversation, with that id if `takes_unknown_id`. With `has_tokens`, the
        limit of tokens has admitted the request already.

        The caller's own credential is not kept, so it is not forwarded to tools. For a key that the owner used before,
        return the earlier task.

        Raises:
            QueueFullError: when too many tasks are waiting.
            KeyReusedError: when the key was used with another question before.
            StateUnavailableError: when Redis is unavailable.
        """
        conversation_id = await self._conversation(owner, question, takes_unknown_id=takes_unknown_id)
        submitted = await self._tasks.accept(
            owner,
            question.message,
            conversation_id=conversation_id,
            details=question.details,
            claim=await self._worker.can_start(has_tokens=has_tokens),
            traceparent=traceparent,
            idempotency_key=idempotency_key,
        )
        if submitted.claim is not None:
            begins = conversation_id != question.conversation_id
            self._worker.begin(replace(submitted.claim, begins_conversation=begins))
        return submitted

    async def _conversation(self, owner: str, question: Question, *, takes_unknown_id: bool) -> str:
        known = question.conversation_id
        if known is None:
            return new_id()
        if takes_unknown_id or question.details.earlier is not None:
            return known
        if await self._tasks.has_conversation(owner, known):
            return known
        if await self._conversations.history(owner, known) or await self._approvals.waited_in(known, owner):
            return known
        return new_id()
