"""What the operator's policy and the agent's class let an agent be. Pure."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.classes.choice import Applied, Classes, Refusal, apply_class
from agent_operator.controller.status.status import POLICY_REFUSED
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy


def permitted(agent: AgentDeployment, policy: Policy | None, classes: Classes) -> Applied:
    """Return the agent with its class, or why the policy or the class refuses it.

    The policy is about what the user wrote, and not about what the class provides.
    """
    refused = refusals(agent.spec, policy) if policy is not None else []
    if refused:
        refusal = Refusal(POLICY_REFUSED, "The operator's policy refuses the spec", tuple(refused))
        return Applied(agent, refusal=refusal)
    return apply_class(agent, classes)
