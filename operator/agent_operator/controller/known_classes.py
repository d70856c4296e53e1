"""The classes that the operator knows: those of the cluster, or those that it was started with."""

from agent_operator.classes.choice import Classes, classes_of
from agent_operator.kube.cache import Cache


class KnownClasses:
    """The classes in the cache, parsed once until they change; `given` classes replace them."""

    def __init__(self, cache: Cache, given: Classes | None = None) -> None:
        self.given = given
        self._cache = cache
        self._parsed: Classes | None = None

    def changed(self) -> None:
        """Parse the classes in the cache again when they are next needed."""
        self._parsed = None

    def current(self) -> Classes:
        """Return all classes."""
        if self.given is not None:
            return self.given
        if self._parsed is None:
            self._parsed = classes_of(self._cache.classes())
        return self._parsed
