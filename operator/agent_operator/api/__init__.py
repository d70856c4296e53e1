"""The `AgentDeployment` API: its models, and everything generated from them."""
