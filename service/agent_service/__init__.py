"""The agent API: a small HTTP service in front of a model, made to run as a pod."""

from importlib.metadata import version

__version__ = version("portside")
