"""The one error that the test bed raises deliberately."""


class TestbedError(Exception):
    """An error that a user must know about or act on. Its text is a whole sentence, shown without a traceback."""

    __test__ = False  # the name begins with "Test", so pytest would collect it
