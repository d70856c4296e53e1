"""What an `AgentDeployment` is: its models, and all that is generated from them."""
