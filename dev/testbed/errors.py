"""The one error that the test bed raises on purpose."""


class TestbedError(Exception):
    """Something a person has to know or do: the text is a whole sentence, and is shown without a traceback."""

    __test__ = False  # the name begins with "Test", and pytest would collect it
