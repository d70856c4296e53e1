"""The tools of an agent: the file for the service, the servers beside it, the Secrets, and egress."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.cautions import cautions
from agent_operator.api.crd import crd
from agent_operator.api.runtime import TMP_DIR
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.manifests import desired
from agent_operator.manifests.tools_file import tools_file
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy
from agent_operator.tools.lint import advice
from agent_service.config.tools import parse_tools
from unit.operator.strategies import specs_with_tools

Document = dict[str, Any]

URL: Document = {"name": "web", "mcp": {"url": "https://mcp.example.com/mcp"}}
SIDECAR: Document = {"name": "clock", "mcp": {"sidecar": {"image": "registry.example.com/clock:1"}}}
CODE: Document = {"name": "local", "code": {"configMapKeyRef": {"name": "my-tools", "key": "tools.py"}, "port": 8091}}
REFERENCE: Document = {"group": "kagent.dev", "kind": "MCPServer", "name": "clock"}
TOKEN = {"name": "mcp-token", "key": "token"}
HEADER: Document = {"name": "Authorization", "prefix": "Bearer ", "secretKeyRef": TOKEN}
GRANT: Document = {
    "tokenUrl": "https://login.example.com/token",
    "clientIdSecretKeyRef": {"name": "client", "key": "id"},
    "clientSecretKeyRef": {"name": "client", "key": "secret"},
    "scopes": ["read"],
}
REDIS = {"redis": {"url": "redis://state"}}
# The most that the API server stores of one object from `kubectl apply` (the annotation with the last one), in bytes.
MOST_BYTES = 262_144


def objects(**spec: Any) -> dict[tuple[str, str], Document]:
    """Return the objects of an echo agent by kind and name; the keyword arguments are fields of its spec."""
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return {(each["kind"], each["metadata"]["name"]): each for each in desired(AgentDeployment("hello", "prod", model))}


def pod(name: str = "hello", /, **spec: Any) -> Document:
    """Return the pod template's spec of the Deployment."""
    template: Document = objects(**spec)["Deployment", name]["spec"]["template"]["spec"]
    return template


def file(*tools: Document) -> list[Document]:
    """Return the entries of the file for the service."""
    entries: list[Document] = json.loads(objects(tools=[*tools])["ConfigMap", "hello-tools"]["data"]["tools.json"])[
        "tools"
    ]
    return entries


def servers(name: str = "hello", /, **spec: Any) -> dict[str, Document]:
    """Return the containers that start before the agent's, by name."""
    return {each["name"]: each for each in pod(name, **spec).get("initContainers", [])}


def with_mcp(**more: Any) -> Document:
    return {**URL, "mcp": {**URL["mcp"], **more}}


def faults(**spec: Any) -> list[str]:
    """Return the faults of a spec; empty if it is valid."""
    document = {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "hello"}}
    try:
        parse(document | {"spec": {"agent": {"provider": "echo"}, **spec}})
    except InvalidAgentError as error:
        return list(map(str, error.faults))
    return []


def test_the_service_reads_the_entries_as_they_are_written() -> None:
    tool = {
        **with_mcp(headersFrom=[HEADER], forwardCaller=False, allowLinkLocal=True),
        "allow": ["get_*"],
        "approve": ["get_secret_*"],
        "timeoutSeconds": 5,
        "maxResultBytes": 4096,
        "onUnavailable": "fail",
    }
    builtin = {"name": "search", "builtin": "web_search"}

    code = {**CODE, "approve": ["*"]}

    assert file(tool, builtin, code) == [tool, builtin, code]


@given(specs_with_tools())
@settings(max_examples=100, deadline=None)
def test_the_service_accepts_the_file_of_every_spec(spec: Document) -> None:
    model = AgentSpec.model_validate(spec)
    # The one thing that the schema accepts and the service does not is an address of no server: `validate` warns of it.
    assume(not any("would not start" in fault.message for fault in advice(model)))

    for text in tools_file(model).values():
        entries = parse_tools(text)

        assert [entry.name for entry in entries] == [tool.name for tool in model.tools or []]
        # Also their ports: the service derives the addresses of servers beside the agent itself.
        local = [f"http://127.0.0.1:{tool.port}/" for tool in model.tools or [] if tool.port is not None]
        assert all(any(entry.url.startswith(each) for entry in entries if entry.builtin is None) for each in local)


def test_of_a_sidecar_the_service_reads_only_its_address() -> None:
    (entry,) = file({"name": "clock", "mcp": {"sidecar": {"image": "a", "env": [{"name": "KEY", "value": "x"}]}}})

    assert entry == {"name": "clock", "mcp": {"sidecar": {"port": 8090, "path": "/mcp"}}}


def test_a_reference_that_is_not_resolved_is_a_server_that_cannot_be_reached() -> None:
    tool = {"name": "clock", "mcp": {"serverRef": REFERENCE, "headersFrom": [HEADER]}, "onUnavailable": "fail"}

    (entry,) = file(tool)

    mcp = {"url": "http://clock.unresolved.invalid/mcp", "headersFrom": [HEADER]}
    assert entry == {"name": "clock", "mcp": mcp, "onUnavailable": "fail"}
    assert len(objects(tools=[tool])["NetworkPolicy", "hello"]["spec"]["egress"]) == 1


def test_the_settings_name_the_file_and_the_bounds_only_with_tools() -> None:
    agent = {"provider": "echo", "maxSteps": 5, "maxToolCalls": 7}
    names = ("TOOLS_FILE", "MAX_STEPS", "MAX_TOOL_CALLS")

    def settings(**spec: Any) -> list[str | None]:
        data = objects(**spec)["ConfigMap", "hello"]["data"]
        return [data.get(name) for name in names]

    assert settings(agent=agent, tools=[URL]) == ["/etc/portside/tools/tools.json", "5", "7"]
    assert settings(tools=[URL]) == ["/etc/portside/tools/tools.json", None, None]
    assert settings(agent=agent) == [None, None, None]


def test_the_settings_of_approvals_are_there_only_with_tools_and_if_set() -> None:
    approvals = {"approvers": ["0123456789abcdef", "1234567890123456"], "ttlSeconds": 600}

    def settings(**spec: Any) -> list[str | None]:
        data = objects(**spec)["ConfigMap", "hello"]["data"]
        return [data.get(name) for name in ("APPROVERS", "APPROVAL_TTL_SECONDS")]

    assert settings(tools=[URL], approvals=approvals) == ["0123456789abcdef,1234567890123456", "600"]
    assert settings(tools=[URL], approvals={"approvers": []}) == [None, None]
    assert settings(approvals=approvals) == [None, None]
    assert objects(tools=[URL], approvals={}) == objects(tools=[URL])


@pytest.mark.parametrize("name", ["hello", "hello-worker"])
def test_the_file_does_not_change_in_a_running_pod(name: str) -> None:
    spec = pod(name, tools=[URL], worker={"enabled": True}, **REDIS)

    (mount,) = [each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "tools"]
    assert mount == {
        "name": "tools",
        "mountPath": "/etc/portside/tools/tools.json",
        "subPath": "tools.json",
        "readOnly": True,
    }
    assert {"name": "tools", "configMap": {"name": "hello-tools"}} in spec["volumes"]


def test_a_change_of_the_tools_replaces_the_pods() -> None:
    def checksum(**spec: Any) -> str:
        template = objects(**spec)["Deployment", "hello"]["spec"]["template"]
        text: str = template["metadata"]["annotations"]["portside.dev/config-checksum"]
        return text

    assert len({checksum(), checksum(tools=[URL]), checksum(tools=[{**URL, "allow": ["a"]}])}) == 3


def test_an_agent_whose_tools_are_empty_has_the_objects_of_one_without_tools() -> None:
    assert objects(tools=[]) == objects()


@pytest.mark.parametrize("name", ["hello", "hello-worker"])
def test_secrets_are_files_of_our_own_container_alone(name: str) -> None:
    auth = {"clientCredentials": GRANT}
    # One key that two entries use is one file.
    tools = [with_mcp(headersFrom=[{**HEADER, "name": "X-Key"}], auth=auth), {**SIDECAR, "name": "other"}]
    tools[1] = {**tools[1], "mcp": {**tools[1]["mcp"], "headersFrom": [HEADER]}}
    runtime = {"image": "registry.example.com/agent:1"}
    spec = pod(name, tools=tools, runtime=runtime, worker={"enabled": True}, **REDIS)

    (volume,) = [each for each in spec["volumes"] if each["name"] == "tool-secrets"]
    sources = [each["secret"] for each in volume["projected"]["sources"]]
    assert [(each["name"], each["items"]) for each in sources] == [
        ("mcp-token", [{"key": "token", "path": "mcp-token/token"}]),
        ("client", [{"key": "id", "path": "client/id"}]),
        ("client", [{"key": "secret", "path": "client/secret"}]),
    ]
    mounts = {each["name"]: each["volumeMounts"] for each in [*spec["containers"], *spec["initContainers"]]}
    assert [name for name, each in mounts.items() if "tool-secrets" in {mount["name"] for mount in each}] == ["agent"]
    (mount,) = [each for each in mounts["agent"] if each["name"] == "tool-secrets"]
    assert mount["mountPath"] == "/var/run/portside/tool-secrets"


@pytest.mark.parametrize("name", ["hello", "hello-worker"])
def test_servers_beside_the_agent_are_native_sidecars_between_the_users_containers_and_the_runtime(name: str) -> None:
    first = {"name": "first", "image": "busybox"}
    spec = {"initContainers": [first], "runtime": {"image": "a"}, "worker": {"enabled": True}, **REDIS}
    found = servers(name, tools=[SIDECAR, URL, CODE], **spec)

    assert list(found) == ["first", "tool-clock", "tool-local", "runtime"]
    for container in (found["tool-clock"], found["tool-local"]):
        assert container["restartPolicy"] == "Always"
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "readinessProbe" not in container
        assert "envFrom" not in container


def test_a_sidecar_has_what_the_spec_gives_it_and_a_port_in_its_environment() -> None:
    sidecar = {
        "image": "registry.example.com/clock:1",
        "imagePullPolicy": "Always",
        "command": ["clock"],
        "args": ["--http"],
        "env": [{"name": "ZONE", "value": "UTC"}],
        "envFrom": [{"secretRef": {"name": "clock"}}],
        "workingDir": "/srv",
        "port": 9000,
        "path": "/api/mcp",
        "resources": {"limits": {"memory": "1Gi"}},
        "securityContext": {"runAsUser": 1000},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "startupSeconds": 30,
    }
    spec = {"tools": [{"name": "clock", "mcp": {"sidecar": sidecar}}], "extraVolumes": [{"name": "data"}]}

    probe = {"tcpSocket": {"port": 9000}}
    assert servers(**spec)["tool-clock"] == {
        "name": "tool-clock",
        **{field: sidecar[field] for field in ("image", "imagePullPolicy", "command", "args", "workingDir", "envFrom")},
        **{field: sidecar[field] for field in ("resources", "securityContext")},
        "restartPolicy": "Always",
        "env": [{"name": "PORT", "value": "9000"}, {"name": "ZONE", "value": "UTC"}],
        "volumeMounts": [{"name": "tool-clock-tmp", "mountPath": TMP_DIR}, {"name": "data", "mountPath": "/data"}],
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 30, "timeoutSeconds": 1},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def test_a_port_in_the_environment_of_a_sidecar_replaces_ours() -> None:
    tool = {"name": "clock", "mcp": {"sidecar": {"image": "a", "env": [{"name": "PORT", "value": "1"}]}}}

    assert servers(tools=[tool])["tool-clock"]["env"] == [{"name": "PORT", "value": "1"}]


def test_a_python_file_is_served_by_our_own_image_from_its_config_map() -> None:
    spec = {"tools": [CODE], "image": {"tag": "1"}}
    container = servers(**spec)["tool-local"]

    assert container["image"] == "portside.dev/agent-service:1"
    assert container["args"] == ["tools", "--host", "::", "--loopback-only", "/etc/portside/tools/tools.py"]
    assert container["env"] == [{"name": "PORT", "value": "8091"}]
    (volume,) = [each for each in pod(**spec)["volumes"] if each["name"] == "tool-local-code"]
    assert volume["configMap"] == {"name": "my-tools", "items": [{"key": "tools.py", "path": "tools.py"}]}


@pytest.mark.parametrize(("tools", "user"), [([URL], 10001), ([CODE], 10001), ([SIDECAR], None)])
def test_only_an_image_of_the_users_has_a_user_of_its_own(tools: list[Document], user: int | None) -> None:
    spec = pod(tools=tools)

    assert spec["securityContext"].get("runAsUser") == user
    assert spec["containers"][0]["securityContext"].get("runAsUser", 10001) == 10001


def test_egress_follows_from_the_addresses_of_servers_and_token_endpoints() -> None:
    auth = {"clientCredentials": {**GRANT, "tokenUrl": "https://login.example.com:8443/token"}}
    inside: Document = {"name": "clock", "mcp": {"url": "http://clock.tools.svc.cluster.local:8080/mcp"}}
    tools = [with_mcp(auth=auth), inside, {**inside, "name": "again"}, SIDECAR]

    everywhere, *rules = objects(tools=tools)["NetworkPolicy", "hello"]["spec"]["egress"]

    assert [each["port"] for each in everywhere["ports"]] == [53, 53, 5353, 5353, 443, 8443]
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}}
    assert rules == [{"ports": [{"port": 8080, "protocol": "TCP"}], "to": [selector]}]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"tools": [{"name": "a"}]}, "set exactly one of mcp (a server), builtin"),
        ({"tools": [{**URL, "builtin": "web_search"}]}, "set exactly one of mcp (a server), builtin"),
        ({"tools": [{"name": "a", "mcp": {}}]}, "set exactly one of mcp.url"),
        ({"tools": [with_mcp(serverRef=REFERENCE)]}, "set exactly one of mcp.url"),
        ({"tools": [{"name": "a", "builtin": "web_search", "allow": []}]}, "have no effect with builtin"),
        ({"tools": [{"name": "a", "builtin": "web_search", "onUnavailable": "fail"}]}, "have no effect with builtin"),
        ({"tools": [{"name": "a", "builtin": "shell"}]}, "builtin"),
        ({"tools": [URL, URL]}, "has the same name as an earlier entry"),
        ({"tools": [URL] + [{**URL, "name": f"a{index}"} for index in range(32)]}, "at most 32"),
        ({"tools": [{**URL, "name": "a" * 33}]}, "name"),
        *(
            ({"tools": [{"name": "a", "mcp": {"url": url}}]}, "spec.tools[0].mcp.url")
            for url in ("ftp://a", "http://a:0", "http://me@a", "http://a/#b")
        ),
        (
            {"tools": [with_mcp(headersFrom=[{**HEADER, "name": "Mcp-Session-Id"}])]},
            "the header is one that the client of the server sets itself",
        ),
        (
            {"tools": [with_mcp(headersFrom=[{**HEADER, "name": "X-A"}, {**HEADER, "name": "x-a"}])]},
            "two headers in mcp.headersFrom have the same name",
        ),
        (
            {"tools": [{"name": "a", "builtin": "web_search"}, {"name": "b", "builtin": "web_search"}]},
            "two entries of tools have the same builtin",
        ),
        ({"tools": [with_mcp(headersFrom=[HEADER], forwardCaller=True)]}, "one header Authorization"),
        (
            {"tools": [with_mcp(headersFrom=[{**HEADER, "name": "authorization"}], auth={"clientCredentials": GRANT})]},
            "one header Authorization",
        ),
        (
            {"tools": [with_mcp(auth={"clientCredentials": {**GRANT, "clientId": "me"}})]},
            "set exactly one of clientId and clientIdSecretKeyRef",
        ),
        (
            {"tools": [with_mcp(headersFrom=[{**HEADER, "secretKeyRef": {"name": "a", "key": "..b"}}])]},
            "secretKeyRef.key",
        ),
        (
            {
                "tools": [
                    {
                        "name": "a",
                        "mcp": {
                            "serverRef": {**REFERENCE, "kind": "RemoteMCPServer", "group": "toolhive.stacklok.dev"}
                        },
                    }
                ]
            },
            "the kind RemoteMCPServer belongs to the group kagent.dev",
        ),
        *(
            ({"tools": [{"name": "a", "mcp": {"sidecar": {"image": "a", "port": port}}}]}, "must not be 8000")
            for port in (8000, 8089, 9090)
        ),
        ({"tools": [{**CODE, "code": {**CODE["code"], "port": 8089}}]}, "must not be 8000"),
        ({"tools": [SIDECAR, {**CODE, "code": {**CODE["code"], "port": 8090}}]}, "have the same port"),
        ({"tools": [CODE], "runtime": {"image": "a", "port": 8091}}, "the port of a tool is that of the runtime"),
        ({"tools": [URL], "sidecars": [{"name": "tool-x", "image": "a"}]}, "names begin with tool- are Portside's own"),
        (
            {"tools": [URL], "initContainers": [{"name": "tool-x", "image": "a"}]},
            "names begin with tool- are Portside's own",
        ),
        ({"tools": [URL], "extraVolumes": [{"name": "tools"}]}, "the volume tools and those whose names begin"),
        (
            {
                "tools": [URL],
                "extraVolumes": [{"name": "a"}],
                "extraVolumeMounts": [{"name": "a", "mountPath": "/var/run/portside/tool-secrets"}],
            },
            "with tools, the folders",
        ),
        (
            {
                "tools": [
                    {
                        "name": "a",
                        "mcp": {"sidecar": {"image": "a", "volumeMounts": [{"name": "secrets", "mountPath": "/a"}]}},
                    }
                ]
            },
            "a mount in the sidecar of a tool refers to an unknown volume",
        ),
        ({"agent": {"provider": "echo", "maxSteps": 101}}, "maxSteps"),
        ({"agent": {"provider": "echo", "maxToolCalls": 0}}, "maxToolCalls"),
        *(
            ({"tools": [{**URL, **bound}]}, next(iter(bound)))
            for bound in ({"timeoutSeconds": 0}, {"timeoutSeconds": 3601}, {"maxResultBytes": 1023})
        ),
        (
            {"tools": [{"name": "a", "builtin": "web_search", "approve": ["a"]}]},
            "allow, approve, timeoutSeconds, maxResultBytes and onUnavailable have no effect with builtin",
        ),
        ({"tools": [{**URL, "approve": ["a", "a"]}]}, "spec.tools[0].approve[1]: is the same as an earlier entry"),
        ({"approvals": {"approvers": ["my key"]}}, "spec.approvals.approvers[0]: "),
        ({"approvals": {"approvers": ["0123456789ABCDEF"]}}, "spec.approvals.approvers[0]: "),
        ({"approvals": {"approvers": [1234567890123456]}}, "spec.approvals.approvers[0]: "),
        (
            {"approvals": {"approvers": ["0123456789abcdef"] * 2}},
            "spec.approvals.approvers[1]: is the same as an earlier entry",
        ),
        ({"approvals": {"approvers": [f"{number:016x}" for number in range(101)]}}, "spec.approvals.approvers: "),
        *(({"approvals": {"ttlSeconds": seconds}}, "spec.approvals.ttlSeconds: ") for seconds in (0, 604_801)),
    ],
)
def test_a_fault_of_the_tools_is_reported_with_its_field(spec: Document, sentence: str) -> None:
    assert any(sentence in fault for fault in faults(**spec)), faults(**spec)


def test_what_is_portsides_own_with_tools_is_free_without_them() -> None:
    assert faults(sidecars=[{"name": "tool-x", "image": "a"}], extraVolumes=[{"name": "tools"}]) == []


def test_a_policy_covers_the_ports_and_the_privileges_of_tools() -> None:
    privileged = {"image": "a", "securityContext": {"privileged": True}}
    tools = [
        {"name": "near", "mcp": {"url": "http://clock.tools:8080/mcp"}},
        {**with_mcp(auth={"clientCredentials": {**GRANT, "tokenUrl": "https://login.example.com:9/t"}}), "name": "far"},
        {"name": "beside", "mcp": {"sidecar": privileged}},
    ]
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}, "tools": tools})

    assert sorted(fault.field for fault in refusals(spec, Policy())) == [
        "spec.tools[beside].mcp.sidecar.securityContext.privileged",
        "spec.tools[far].mcp.auth.clientCredentials.tokenUrl",
        "spec.tools[near].mcp.url",
    ]
    allowing = Policy.model_validate({"egressPorts": [443, 8080, 9], "privileges": True})
    assert refusals(spec, allowing) == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tools": [{"name": "a", "mcp": {"sidecar": {"image": "a"}}}]}, "spec.tools[0].mcp.sidecar.image"),
        (
            {"tools": [{"name": "a", "mcp": {"sidecar": {"image": "a:1", "resources": {}}}}]},
            "spec.tools[0].mcp.sidecar.resources.limits",
        ),
        (
            {"tools": [URL, {"name": "a", "mcp": {"sidecar": {"image": "a:1", "securityContext": {}}}}]},
            "spec.tools[1].mcp.sidecar.securityContext",
        ),
        (
            {
                "tools": [
                    {"name": "a", "mcp": {"sidecar": {"image": "a:1", "env": [{"name": "API_KEY", "value": "x"}]}}}
                ]
            },
            "spec.tools[0].mcp.sidecar.env[0].value",
        ),
        (
            {"tools": [{"name": "a", "mcp": {"url": "http://mcp.example.com/mcp", "headersFrom": [HEADER]}}]},
            "spec.tools[0].mcp.url",
        ),
        ({"agent": {"provider": "echo", "maxSteps": 5}}, "spec.agent.maxSteps"),
        ({"agent": {"provider": "echo", "maxToolCalls": 5}}, "spec.agent.maxToolCalls"),
        ({"tools": [URL], "approvals": {"ttlSeconds": 5}}, "spec.approvals"),
        (
            {"tools": [{**URL, "approve": ["a"]}], "approvals": {"approvers": ["0123456789abcdef"]}},
            "spec.approvals.approvers",
        ),
        (
            {"tools": [{**URL, "approve": ["a"]}], "runtime": {"image": "a:1", "protocol": "http"}},
            "spec.tools[0].approve",
        ),
    ],
)
def test_what_is_valid_but_inadvisable_is_reported(spec: Document, field: str) -> None:
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})

    assert field in {fault.field for fault in advice(model)}


@pytest.mark.parametrize(
    ("fallbacks", "useless"),
    [
        ([], {"spec.agent.baseUrl", "spec.apiKey"}),
        ([{"provider": "anthropic", "credentials": {"secretName": "other"}}], {"spec.apiKey"}),
        ([{"provider": "anthropic"}], set()),
    ],
)
def test_what_a_fallback_of_anthropic_uses_is_not_called_useless(fallbacks: list[Document], useless: set[str]) -> None:
    agent: Document = {
        "provider": "bedrock",
        "bedrock": {"region": "eu-west-1"},
        "credentials": {"secretName": "cloud"},
    }
    agent |= {"baseUrl": "https://gateway.example.com", **({"fallbacks": fallbacks} if fallbacks else {})}
    model = AgentSpec.model_validate({"agent": agent, "apiKey": {"secretName": "key"}})

    assert {fault.field for fault in advice(model)} & {"spec.agent.baseUrl", "spec.apiKey"} == useless


def test_autoscaling_on_memory_needs_a_request_of_each_server() -> None:
    tools = [{"name": "a", "mcp": {"sidecar": {"image": "a:1", "resources": {"requests": {"cpu": 1}}}}}]
    autoscaling = {"enabled": True, "targetMemoryUtilizationPercentage": 80}
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}, "tools": tools, "autoscaling": autoscaling})

    assert "spec.tools[0].mcp.sidecar.resources" in dict(cautions(spec))


def test_the_definition_leaves_room_in_what_kubectl_applies() -> None:
    assert len(json.dumps(crd(), separators=(",", ":"))) < MOST_BYTES * 0.9
