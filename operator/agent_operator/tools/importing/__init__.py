"""`kubectl agent import`: AgentDeployments from plain Deployments and from kagent's agents."""
