"""A spec's access to a model, at the stand-in of each provider: by a key in a Secret, or by the pods' identity."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from support.clouds.anthropic import running_anthropic
from support.clouds.bedrock import REGION as AWS_REGION
from support.clouds.bedrock import Account, running_bedrock
from support.clouds.foundry import Resource, running_foundry
from support.clouds.token_services import (
    AUDIENCES,
    CLIENT,
    ORGANIZATION,
    POOL,
    ROLE,
    RULE,
    TENANT,
    Cluster,
    TokenService,
    running_token_service,
    write_token,
)
from support.clouds.vertex import PROJECT, REGION, ServiceAccount, running_vertex
from support.manifests import documents

PROVIDERS = ("anthropic", "bedrock", "vertex", "foundry")

_COMMAND = Path(sys.executable).parent / "agent-operator"
_SECRETS = "/etc/portside/secrets"
_TRUSTS: dict[str, dict[str, str]] = {
    "anthropic": {"federationRuleId": RULE, "organizationId": ORGANIZATION},
    "bedrock": {"roleArn": ROLE},
    "vertex": {"provider": POOL},
    "foundry": {"tenantId": TENANT, "clientId": CLIENT},
}


@contextmanager
def running_place(
    provider: str, secrets: Path, upstream_url: str, *, model: str, with_key: bool = False
) -> Iterator[dict[str, Any]]:
    """Run the stand-in of a provider, and yield the part of a spec that names it and its credentials.

    Args:
        provider: one of PROVIDERS.
        secrets: an empty folder, which gets what the kubelet would mount.
        upstream_url: the stand-in for Anthropic's API, which answers.
        model: the model that is called.
        with_key: whether there is a key in a Secret, in place of a workload identity.
    """
    with ExitStack() as stack:
        account, project, resource = Account(), ServiceAccount(), Resource(deployments={model})
        issued: set[str] = set()
        if provider == "anthropic":
            url = upstream_url if with_key else stack.enter_context(running_anthropic(issued, upstream_url)).url
        elif provider == "bedrock":
            url = stack.enter_context(running_bedrock(account, upstream_url)).url
        elif provider == "vertex":
            url = stack.enter_context(running_vertex(project, upstream_url)).url
        else:
            url = stack.enter_context(running_foundry(resource, upstream_url)).url
        place: dict[str, dict[str, Any]] = {
            "anthropic": {"baseUrl": url},
            "bedrock": {"bedrock": {"region": AWS_REGION, "baseUrl": url}},
            "vertex": {"vertex": {"project": PROJECT, "region": REGION, "baseUrl": url}},
            "foundry": {"foundry": {"baseUrl": url}},
        }
        agent = {"provider": provider, "model": model, **place[provider]}
        if with_key:
            account.keys["AKIAONE"] = ("secret-one", None)
            resource.api_keys.add("key-of-the-resource")
            files = {
                "anthropic": {"ANTHROPIC_API_KEY": "sk-of-the-stand-in"},
                "bedrock": {"AWS_ACCESS_KEY_ID": "AKIAONE", "AWS_SECRET_ACCESS_KEY": "secret-one"},
                "vertex": {"GOOGLE_SERVICE_ACCOUNT_KEY": project.file(url)},
                "foundry": {"ANTHROPIC_FOUNDRY_API_KEY": "key-of-the-resource"},
            }
            for name, text in files[provider].items():
                (secrets / name).write_text(text)
            yield agent if provider == "anthropic" else {**agent, "credentials": {"secretName": "cloud"}}
            return
        cluster = Cluster()
        service = TokenService(AUDIENCES[provider], cluster.keys, issued=issued)
        service.on_issue = lambda value: account.keys.update({f"ASIA{value}": (f"secret-{value}", value)})
        project.tokens = resource.tokens = issued
        token_url = stack.enter_context(running_token_service(provider, service, upstream_url)).url
        write_token(secrets / "identity-token", cluster.token(service.audience))
        identity = {"tokenUrl": token_url, provider: _TRUSTS[provider]}
        yield {**agent, "credentials": {"workloadIdentity": identity}}


def rendered_settings(spec: dict[str, Any], secrets: Path) -> dict[str, str]:
    """Return the settings of the pods of an agent as `render` prints them, with another folder of secrets."""
    agent = {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "support"}}
    done = subprocess.run(
        [_COMMAND, "render", "-f", "-"],
        input=json.dumps({**agent, "spec": spec}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (each for each in documents(done.stdout) if each["kind"] == "ConfigMap")
    settings: dict[str, str] = found["data"]
    return {name: value.replace(_SECRETS, str(secrets)) for name, value in settings.items()}
