"""The Portside operator: keeps what every `AgentDeployment` asks for running on Kubernetes."""

from importlib.metadata import version

__version__ = version("portside")
