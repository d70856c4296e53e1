"""Lua scripts, which the server runs atomically."""

import hashlib
from importlib import resources


class Script:
    """A Lua script in the folder `lua` of a package, which the server runs atomically (Redis: "Scripting with Lua").

    Several names form one script of several files; the last file uses what the others define.
    """

    def __init__(self, package: str, *names: str) -> None:
        self.name = names[-1]
        folder = resources.files(package).joinpath("lua")
        self.text = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
