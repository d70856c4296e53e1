"""Lua scripts, which the server runs atomically."""

import hashlib
from importlib import resources


class Script:
    """A Lua script in the folder `lua` of a package, which the server runs atomically (Redis: "Scripting with Lua").

    Several names form one script of several files; the last file uses what the others define. A file of another package
    has the package before its name: `agent_service.chat/exchange`.
    """

    def __init__(self, package: str, *names: str) -> None:
        self.name = names[-1]
        files = (name.rpartition("/") for name in names)
        self.text = b"\n".join(
            resources.files(other or package).joinpath("lua", f"{name}.lua").read_bytes() for other, _, name in files
        )
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
