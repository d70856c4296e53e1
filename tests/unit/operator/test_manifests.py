"""The objects that are built from a spec."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from agent_operator import __version__
from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import DEFAULT_STREAM_SECONDS, AgentSpec
from agent_operator.api.yaml import to_yaml
from agent_operator.manifests import desired
from agent_service.config.settings import Settings
from testbed import paths
from unit.operator.strategies import specs

Document = dict[str, Any]


def build(**spec: Any) -> dict[str, Document]:
    """Return the objects of an echo agent by kind; the keyword arguments are fields of its spec."""
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return {document["kind"]: document for document in desired(AgentDeployment("hello", "prod", model))}


def pod(**spec: Any) -> Document:
    """Return the pod template's spec."""
    template: Document = build(**spec)["Deployment"]["spec"]["template"]["spec"]
    return template


def container(**spec: Any) -> Document:
    """Return the only container."""
    (only,) = pod(**spec)["containers"]
    document: Document = only
    return document


def parts(value: Any) -> Iterator[Any]:
    """Yield the value and everything inside it."""
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from parts(child)


# Fields whose content is passed through as written.
VERBATIM = {
    *("affinity", "behavior", "podSecurityContext", "securityContext", "extraEnv", "extraVolumes"),
    *("initContainers", "sidecars", "ingressFrom", "scrapeFrom", "extraEgress"),
    # Their mounts are removed with them.
    *("extraVolumeMounts", "volumeMounts", "env"),
}


HARDENED: Document = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def without(fields: set[str], value: Any) -> Any:
    """Return the spec without these fields, wherever they are."""
    if isinstance(value, dict):
        return {key: without(fields, child) for key, child in value.items() if key not in fields}
    return [without(fields, child) for child in value] if isinstance(value, list) else value


@given(specs())
@settings(max_examples=150, deadline=None)
def test_every_valid_spec_builds_canonical_and_deterministic_objects(spec: Document) -> None:
    objects = desired(AgentDeployment("hello", "prod", AgentSpec.model_validate(spec)))

    assert objects == desired(AgentDeployment("hello", "prod", AgentSpec.model_validate(spec)))
    own = {document["metadata"]["name"] for document in objects if document["kind"] != "ServiceAccount"}
    assert own <= {"hello", "hello-worker", "hello-client-keys", "hello-tools", "hello-jwt"}
    assert {document["metadata"]["namespace"] for document in objects} == {"prod"}
    for document in objects:
        assert yaml.safe_load(to_yaml(document)) == document
        assert json.loads(json.dumps(document)) == document


@given(specs())
@settings(max_examples=50, deadline=None)
def test_built_objects_have_no_empty_values_except_meaningful_ones(spec: Document) -> None:
    # The volumes for temporary files, and the selector of all namespaces.
    model = AgentSpec.model_validate(spec)
    servers = [tool for tool in model.tools or [] if tool.port is not None]
    volumes: list[Document] = [{} for _ in range(1 + ("runtime" in spec) + len(servers))]
    meant = {"Deployment": volumes, "NetworkPolicy": [{}]}
    for document in desired(AgentDeployment("hello", "prod", AgentSpec.model_validate(without(VERBATIM, spec)))):
        empty = [part for part in parts(document) if part is None or part in ([], {})]
        assert empty == meant.get(document["kind"], []), document["kind"]


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029", "n", "Y", "=", "null", "1e3", "\ufeff", "a: b", " #"])
def test_text_that_yaml_could_misread_round_trips(text: str) -> None:
    assert yaml.safe_load(to_yaml({"key": text, text: "value"})) == {"key": text, text: "value"}
    # kubectl reads YAML 1.1, in which these are booleans.
    assert text not in {"n", "Y"} or f'"{text}"' in to_yaml({"key": text})


@given(specs())
@settings(max_examples=50, deadline=None)
def test_every_pod_is_hardened(spec: Document) -> None:
    objects = desired(AgentDeployment("hello", "prod", AgentSpec.model_validate(without(VERBATIM, spec))))
    for deployment in (document for document in objects if document["kind"] == "Deployment"):
        template = deployment["spec"]["template"]["spec"]

        assert template["automountServiceAccountToken"] is False
        assert template["securityContext"]["runAsNonRoot"] is True
        assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        user = {"runAsUser": 10001, "runAsGroup": 10001}
        (container,) = template["containers"]
        assert container["securityContext"].items() >= HARDENED.items()
        assert (template["securityContext"] | container["securityContext"]).items() >= user.items()
        for each in template.get("initContainers", []):
            assert each["securityContext"] == {"runAsNonRoot": True} | HARDENED


def test_the_selector_has_only_what_no_upgrade_changes() -> None:
    deployment = build(podLabels={"team": "blue"})["Deployment"]["spec"]

    assert deployment["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "portside-agent",
        "app.kubernetes.io/instance": "hello",
        "app.kubernetes.io/component": "api",
    }
    assert deployment["template"]["metadata"]["labels"] == {
        **deployment["selector"]["matchLabels"],
        "app.kubernetes.io/part-of": "portside",
        "team": "blue",
    }


def test_settings_are_in_the_config_map_and_unset_ones_have_no_key() -> None:
    data = build(agent={"provider": "echo", "maxTokens": 100, "systemPrompt": "Be kind."})["ConfigMap"]["data"]

    assert data == {
        "AGENT_NAME": "hello",
        "MODEL_PROVIDER": "echo",
        "DEFAULT_MODEL": "claude-sonnet-5-5",
        "MAX_TOKENS": "100",
        "SYSTEM_PROMPT": "Be kind.",
        "REQUEST_TIMEOUT_SECONDS": "60",
        "ENVIRONMENT": "production",
        "RATE_LIMIT_REQUESTS": "100",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "METRICS_PORT": "9090",
    }


@pytest.mark.parametrize(("given", "value"), [(True, "true"), (False, "false"), (None, None)])
def test_whether_callers_may_replace_the_system_prompt_is_a_setting(given: bool | None, value: str | None) -> None:
    agent = {"provider": "echo"} | ({} if given is None else {"allowSystemPrompt": given})

    assert build(agent=agent)["ConfigMap"]["data"].get("ALLOW_SYSTEM_PROMPT") == value


def test_with_a_proxy_in_the_pod_any_host_is_accepted() -> None:
    assert "ALLOWED_HOSTS" not in build()["ConfigMap"]["data"]
    sidecars = [{"name": "proxy", "image": "proxy"}]
    assert build(sidecars=sidecars)["ConfigMap"]["data"]["ALLOWED_HOSTS"] == "*"


def test_traces_are_sent_to_the_collector_with_the_name_and_namespace_of_the_agent() -> None:
    data = build(monitoring={"tracing": {"endpoint": "http://collector:4318"}})["ConfigMap"]["data"]

    assert {key: value for key, value in data.items() if key.startswith("OTEL_")} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_SERVICE_NAME": "hello",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=prod,k8s.namespace.name=prod",
    }


def test_the_checksum_covers_the_settings_and_the_inline_key() -> None:
    objects = build(apiKey={"value": "sk-test"})
    lines = [f"{key}={value}\n" for key, value in sorted(objects["ConfigMap"]["data"].items())]
    expected = hashlib.sha256(("".join(lines) + "ANTHROPIC_API_KEY=sk-test\n").encode()).hexdigest()

    annotations = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations["portside.dev/config-checksum"] == expected


SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, SCRAPED),
        ({"podAnnotations": {"prometheus.io/scrape": "false"}}, SCRAPED | {"prometheus.io/scrape": "false"}),
        ({"podAnnotations": {"team": "a"}}, SCRAPED | {"team": "a"}),
        # Otherwise one Prometheus would discover the pods twice.
        ({"monitoring": {"serviceMonitor": {"enabled": True}}}, {}),
    ],
)
def test_pods_are_annotated_with_their_metrics_port(spec: Document, expected: Document) -> None:
    for kind in ("hello", "hello-worker"):
        template = named(**WORKERS, **spec)["Deployment", kind]["spec"]["template"]
        annotations = template["metadata"]["annotations"]
        del annotations["portside.dev/config-checksum"]
        assert annotations == expected
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert ports == {"http": 8000, "metrics": 9090}


def test_metrics_are_not_exposed_by_the_public_service() -> None:
    objects = named(service={"type": "LoadBalancer"}, monitoring={"serviceMonitor": {"enabled": True}})
    assert [port["targetPort"] for port in objects["Service", "hello"]["spec"]["ports"]] == ["http"]
    [endpoint] = objects["ServiceMonitor", "hello"]["spec"]["endpoints"]
    assert endpoint["targetPort"] == "metrics"


@pytest.mark.parametrize(
    ("key", "secret", "item"),
    [
        ({"value": "sk-test"}, "hello", "ANTHROPIC_API_KEY"),
        ({"secretName": "mine", "secretKey": "token"}, "mine", "token"),
    ],
)
def test_a_key_is_mounted_as_a_file_and_never_in_the_environment(key: Document, secret: str, item: str) -> None:
    source = {"secret": {"name": secret, "items": [{"key": item, "path": "ANTHROPIC_API_KEY"}]}}
    assert pod(apiKey=key)["volumes"][1] == {"name": "secrets", "projected": {"sources": [source]}}
    assert build(apiKey=key)["ConfigMap"]["data"]["SECRETS_DIR"] == "/etc/portside/secrets"
    assert "env" not in container(apiKey=key)
    assert "sk-test" not in json.dumps(build(apiKey=key)["Deployment"])


def test_without_a_key_there_is_no_secrets_folder() -> None:
    assert "SECRETS_DIR" not in build()["ConfigMap"]["data"]
    assert [volume["name"] for volume in pod()["volumes"]] == ["tmp"]
    assert "Secret" not in build()


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"portside.dev/agent-service:{__version__}"),
        ({"repository": "example.com/a", "tag": "1"}, "example.com/a:1"),
        ({"tag": "1", "digest": f"sha256:{'a' * 64}"}, f"portside.dev/agent-service@sha256:{'a' * 64}"),
    ],
)
def test_a_digest_overrides_a_tag_and_the_default_tag_is_our_version(image: Document, reference: str) -> None:
    assert container(image=image)["image"] == reference


def test_replicas_belong_to_the_autoscaler_if_there_is_one() -> None:
    assert build(replicas=3)["Deployment"]["spec"]["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in build(replicas=3)
    scaled = build(replicas=3, autoscaling={"enabled": True})
    assert "replicas" not in scaled["Deployment"]["spec"]
    assert "HorizontalPodAutoscaler" in scaled


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ({}, [("cpu", 70)]),
        ({"targetCPUUtilizationPercentage": 50}, [("cpu", 50)]),
        ({"targetMemoryUtilizationPercentage": 80}, [("memory", 80)]),
        (
            {"targetCPUUtilizationPercentage": 50, "targetMemoryUtilizationPercentage": 80},
            [("cpu", 50), ("memory", 80)],
        ),
    ],
)
def test_the_autoscaler_has_the_configured_targets_or_one_for_cpu(
    targets: dict[str, int], expected: list[tuple[str, int]]
) -> None:
    metrics = build(autoscaling={"enabled": True, **targets})["HorizontalPodAutoscaler"]["spec"]["metrics"]

    resources = [metric["resource"] for metric in metrics]
    assert [(each["name"], each["target"]["averageUtilization"]) for each in resources] == expected


@pytest.mark.parametrize(
    ("times", "longest"),
    [
        ({}, 300),
        ({"requestTimeoutSeconds": 20}, 300),
        ({"requestTimeoutSeconds": 400}, 400),
        ({"streamTimeoutSeconds": 900}, 900),
        ({"requestTimeoutSeconds": 20, "streamTimeoutSeconds": 20}, 20),
        ({"streamTimeoutSeconds": 20}, 60),
    ],
)
def test_the_grace_period_and_the_route_allow_for_the_longest_answer_and_endpoint_removal(
    times: dict[str, int], longest: int
) -> None:
    route = {"enabled": True, "parentRefs": [{"name": "public"}]}
    objects = build(agent={"provider": "echo", **times}, httpRoute=route, service={"port": 8080})

    assert pod(agent={"provider": "echo", **times})["terminationGracePeriodSeconds"] == longest + 15
    (rule,) = objects["HTTPRoute"]["spec"]["rules"]
    assert rule["timeouts"] == {"request": f"{longest + 15}s"}
    assert rule["backendRefs"] == [{"name": "hello", "port": 8080}]
    assert objects["ConfigMap"]["data"].get("STREAM_TIMEOUT_SECONDS") == (
        str(times["streamTimeoutSeconds"]) if "streamTimeoutSeconds" in times else None
    )


def test_without_a_stream_timeout_the_operator_uses_the_default_of_the_service() -> None:
    assert Settings.model_fields["stream_timeout_seconds"].default == DEFAULT_STREAM_SECONDS


def test_a_configured_grace_period_is_used() -> None:
    assert pod(rollout={"terminationGracePeriodSeconds": 20})["terminationGracePeriodSeconds"] == 20
    assert container()["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_a_service_of_another_name_cannot_inject_a_setting() -> None:
    assert pod()["enableServiceLinks"] is False


def test_configured_resources_replace_the_default_as_a_whole() -> None:
    assert container()["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
    assert container(resources={"requests": {"cpu": 1}})["resources"] == {"requests": {"cpu": "1"}}
    assert "resources" not in container(resources={})


def test_the_manager_is_a_label_of_the_objects_but_not_of_the_pods() -> None:
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}})

    for document in desired(AgentDeployment("hello", "prod", spec)):
        assert document["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "portside-operator"
        assert document["metadata"]["labels"]["app.kubernetes.io/version"] == __version__
    template = build()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert not {"app.kubernetes.io/managed-by", "app.kubernetes.io/version"} & set(template)


REDIS = {"redis": {"url": "redis://state:6380/0"}}
WORKERS: Document = {**REDIS, "worker": {"enabled": True, "replicas": 2}}


def named(**spec: Any) -> dict[tuple[str, str], Document]:
    """Return the objects of an echo agent by kind and name."""
    model = AgentSpec.model_validate({"agent": {"provider": "echo"}, **spec})
    return {(each["kind"], each["metadata"]["name"]): each for each in desired(AgentDeployment("hello", "prod", model))}


def test_workers_run_beside_the_api_and_take_all_tasks_from_it() -> None:
    objects = named(**WORKERS, resources={"limits": {"memory": "1Gi"}})
    worker = objects["Deployment", "hello-worker"]["spec"]

    assert worker["replicas"] == 2
    assert worker["selector"]["matchLabels"]["app.kubernetes.io/component"] == "worker"
    assert worker["template"]["spec"]["containers"][0]["args"] == ["worker"]
    assert worker["template"]["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert objects["Service", "hello-worker"]["spec"]["clusterIP"] == "None"
    assert objects["ConfigMap", "hello"]["data"]["API_RUNS_TASKS"] == "false"
    assert named(**REDIS)["ConfigMap", "hello"]["data"]["API_RUNS_TASKS"] == "true"
    assert "API_RUNS_TASKS" not in named()["ConfigMap", "hello"]["data"]


def test_agents_that_share_a_redis_use_separate_keys() -> None:
    data = named(**REDIS)["ConfigMap", "hello"]["data"]

    assert (data["REDIS_URL"], data["STATE_PREFIX"]) == ("redis://state:6380/0", "prod/hello")


def test_a_redis_url_with_a_password_is_mounted_as_a_file() -> None:
    objects = named(redis={"secretName": "state", "secretKey": "url"})

    assert "REDIS_URL" not in objects["ConfigMap", "hello"]["data"]
    (source,) = objects["Deployment", "hello"]["spec"]["template"]["spec"]["volumes"][1]["projected"]["sources"]
    assert source == {"secret": {"name": "state", "items": [{"key": "url", "path": "REDIS_URL"}]}}


def test_generated_client_keys_have_their_own_secret_that_starts_empty() -> None:
    objects = named(auth={"enabled": True})

    assert not {"data", "stringData"} & objects["Secret", "hello-client-keys"].keys()
    assert ("Secret", "hello-client-keys") not in named(auth={"enabled": True, "existingSecret": "mine"})


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({}, [53, 53, 5353, 5353]),
        ({"agent": {"provider": "anthropic"}, "apiKey": {"secretName": "x"}}, [53, 53, 5353, 5353, 443]),
        (
            {"agent": {"provider": "anthropic", "baseUrl": "http://gateway:8080/v1"}, "apiKey": {"secretName": "x"}},
            [53, 53, 5353, 5353, 8080],
        ),
        (
            {"agent": {"provider": "anthropic", "baseUrl": "http://gateway"}, "apiKey": {"secretName": "x"}},
            [53, 53, 5353, 5353, 80],
        ),
        (REDIS, [53, 53, 5353, 5353, 6380]),
        ({"redis": {"url": "redis://[::1]/0"}}, [53, 53, 5353, 5353, 6379]),
        ({"redis": {"secretName": "state"}, "networkPolicy": {"redisPort": 7000}}, [53, 53, 5353, 5353, 7000]),
        ({"monitoring": {"tracing": {"endpoint": "http://collector.watch:4318"}}}, [53, 53, 5353, 5353, 4318]),
        ({"monitoring": {"tracing": {"endpoint": "https://collector.example/otlp"}}}, [53, 53, 5353, 5353, 443]),
    ],
)
def test_pods_may_reach_only_dns_the_model_api_redis_and_the_collector(spec: Document, ports: list[int]) -> None:
    policy = named(**spec)["NetworkPolicy", "hello"]["spec"]

    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == ports
    requests = {"ports": [{"port": "http", "protocol": "TCP"}]}
    scrapes = {"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]}
    assert policy["ingress"] == [requests, scrapes]
    assert "app.kubernetes.io/component" not in policy["podSelector"]["matchLabels"]


def test_ingress_of_clients_and_of_scrapers_is_configured_separately() -> None:
    asks, scrapes = {"podSelector": {"matchLabels": {"app": "a"}}}, {"namespaceSelector": {"matchLabels": {"b": "c"}}}
    policy = named(networkPolicy={"ingressFrom": [asks], "scrapeFrom": [scrapes]})["NetworkPolicy", "hello"]["spec"]
    assert [(rule["ports"][0]["port"], rule["from"]) for rule in policy["ingress"]] == [
        ("http", [asks]),
        ("metrics", [scrapes]),
    ]


def test_two_or_more_pods_have_a_disruption_budget() -> None:
    assert ("PodDisruptionBudget", "hello") not in named(replicas=1)
    assert ("PodDisruptionBudget", "hello") in named(replicas=2)
    assert ("PodDisruptionBudget", "hello") in named(autoscaling={"enabled": True, "minReplicas": 2})
    assert ("PodDisruptionBudget", "hello-worker") in named(**WORKERS)
    assert ("PodDisruptionBudget", "hello") not in named(replicas=2, podDisruptionBudget={"enabled": False})


def test_keda_gets_scaled_objects_instead_of_autoscalers() -> None:
    prometheus = {"engine": "keda", "prometheusAddress": "http://prometheus.monitoring:9090"}
    targets = {"enabled": True, "targetInFlightRequests": 20, "targetCPUUtilizationPercentage": 60, "minReplicas": 2}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    worker = {"enabled": True, "autoscaling": {"enabled": True, "targetQueueDepth": 7, "behavior": behavior}}
    objects = named(**REDIS, autoscaling=prometheus | targets, worker=worker)

    assert not [name for kind, name in objects if kind == "HorizontalPodAutoscaler"]
    assert "replicas" not in objects["Deployment", "hello"]["spec"]
    spec = objects["ScaledObject", "hello"]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 10)
    cpu, in_flight = spec["triggers"]
    assert cpu == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}
    assert in_flight["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
    assert in_flight["metadata"]["threshold"] == "20"
    assert 'agent_requests_in_flight{namespace="prod", service="hello"}' in in_flight["metadata"]["query"]
    assert "- sum(agent_requests_throttled" in in_flight["metadata"]["query"]

    spec = objects["ScaledObject", "hello-worker"]["spec"]
    assert spec["scaleTargetRef"] == {"name": "hello-worker"}
    assert spec["advanced"] == {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    (queue,) = spec["triggers"]
    assert queue["metadata"]["query"] == 'max(agent_tasks_due{namespace="prod", service="hello"})'
    assert queue["metadata"]["threshold"] == "7"
    assert {each["metadata"]["ignoreNullValues"] for each in (in_flight, queue)} == {"false"}


def test_keda_uses_the_same_queries_as_the_rules_of_the_adapter() -> None:
    file = paths.REPOSITORY / "manifests" / "monitoring" / "adapter-rules.yaml"
    in_flight, queue = yaml.safe_load(file.read_text())["rules"]
    scaled = {"enabled": True, "engine": "keda", "prometheusAddress": "http://prometheus", "targetInFlightRequests": 1}
    objects = named(**REDIS, autoscaling=scaled, worker={"enabled": True, "autoscaling": {"enabled": True}})
    for name, rule in (("hello", in_flight), ("hello-worker", queue)):
        series = rule["seriesQuery"].partition("{")[0]
        query = " ".join(rule["metricsQuery"].split()).replace(" by (<<.GroupBy>>) ", "").replace("<<.Series>>", series)
        (trigger,) = objects["ScaledObject", name]["spec"]["triggers"]
        assert trigger["metadata"]["query"] == query.replace("<<.LabelMatchers>>", 'namespace="prod", service="hello"')


def test_agents_scale_on_requests_in_flight_and_workers_on_their_queue() -> None:
    in_flight = {"enabled": True, "targetInFlightRequests": 20}
    (metric,) = named(autoscaling=in_flight)["HorizontalPodAutoscaler", "hello"]["spec"]["metrics"]
    assert metric["pods"] == {
        "metric": {"name": "agent_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": "20"},
    }
    objects = named(**REDIS, worker={"enabled": True, "autoscaling": {"enabled": True}})
    (depth,) = objects["HorizontalPodAutoscaler", "hello-worker"]["spec"]["metrics"]
    assert depth["object"]["describedObject"] == {"apiVersion": "v1", "kind": "Service", "name": "hello"}
    assert "replicas" not in objects["Deployment", "hello-worker"]["spec"]


def test_pods_are_spread_over_nodes_and_zones_or_as_configured() -> None:
    keys = [each["topologyKey"] for each in pod()["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    (asked,) = pod(topologySpreadConstraints=[{"topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}])[
        "topologySpreadConstraints"
    ]
    assert (asked["topologyKey"], asked["whenUnsatisfiable"]) == ("rack", "DoNotSchedule")
    assert asked["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "api"


def test_a_configured_security_context_replaces_the_default_as_a_whole() -> None:
    assert pod(podSecurityContext={"runAsNonRoot": True})["securityContext"] == {"runAsNonRoot": True}
    assert "securityContext" not in container(securityContext={})


def test_recreate_has_no_rolling_update_parameters() -> None:
    assert build(rollout={"strategy": "Recreate"})["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
