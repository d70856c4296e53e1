"""Why a turn cannot wait for approvals, or a decision does not count. The messages are for clients."""


class CannotWaitError(Exception):
    """A turn cannot wait for approvals: too many do, or it is too large. The message is for clients."""


class NotAllowedError(Exception):
    """The caller may not decide."""

    def __init__(self) -> None:
        super().__init__("This client may not decide on tool calls of this agent; an approver must (APPROVERS).")


class UnknownApprovalError(Exception):
    """There is no such call, it belongs to another client, or it was removed."""

    def __init__(self) -> None:
        super().__init__("No tool call with this id waits here; it may have expired.")


class DecidedError(Exception):
    """The call was decided differently, or the turn went on already. The message is for clients."""
