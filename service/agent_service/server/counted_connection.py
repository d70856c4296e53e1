"""What the protocols of the server share: a connection that counts among those of its process."""

import asyncio

from agent_service.server.connections import Connections


class CountedConnection(asyncio.Protocol):
    """A base for protocols of uvicorn that reports whether the client reads. It comes before the protocol's class."""

    connections_of_process: Connections
    transport: asyncio.Transport

    def pause_writing(self) -> None:
        """Record that the client reads too slowly."""
        super().pause_writing()
        self.connections_of_process.paused(self)

    def resume_writing(self) -> None:
        """Record that the client has read."""
        super().resume_writing()
        self.connections_of_process.resumed(self)

    def unsent(self) -> int:
        """Return the number of bytes that the kernel has not accepted yet."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close immediately. Unsent bytes are lost."""
        self.transport.abort()
