"""The reasons of the conditions: what each means and what to do.

The reference of conditions and the guide to troubleshooting are generated from this table. Doctor prints its advice.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason of a condition.

    Attributes:
        name: the reason.
        condition: the conditions that have it, and their status.
        meaning: one sentence, in Markdown.
        advice: what to do, an imperative clause in Markdown without its period; empty if there is nothing to do.
        details: further sentences for the guide, in Markdown, with links relative to `docs/how-to`.
    """

    name: str
    condition: str
    meaning: str
    advice: str = ""
    details: str = ""


_REFUSED = "Ready is False, Degraded"
_SCALING = "ScalingActive is False"
_UNAVAILABLE = "DependenciesReachable is False; Degraded after 5 minutes"
_NO_TOOLS = "ToolsReady is False"

_ALL = (
    Reason("Serving", "Ready", "The current revision serves."),
    Reason("ScaledToZero", "Ready", "The spec asks for no pods."),
    Reason("Creating", "Ready is False, Progressing", "The objects are being created.", "wait"),
    Reason("RollingOut", "Ready is False, Progressing", "A new revision is being rolled out.", "wait"),
    Reason("RolloutComplete", "Progressing is False", "The current revision is rolled out."),
    Reason("AsExpected", "Degraded is False", "No problem is known."),
    Reason("MetricsFound", "ScalingActive", "The autoscaler has the values of all its metrics."),
    Reason("BudgetLeft", "WithinBudget", "Less than 80% of the budget is used."),
    Reason("NearlyUsedUp", "WithinBudget", "At least 80% of the budget is used."),
    Reason("Reachable", "DependenciesReachable", "The pods can use their dependencies."),
    Reason(
        "OnFallback",
        "DependenciesReachable",
        "The agent's own provider of the model cannot be used, and one of `agent.fallbacks` answers.",
        "check the provider as the message says",
        "Requests succeed, at the price and with the limits of the fallback. New conversations return to the agent's "
        "own provider within about a minute after it works again: [fallbacks](fallbacks.md).",
    ),
    Reason("ToolsListed", "ToolsReady", "The pods can use the servers of all tools."),
    Reason(
        "InvalidSpec",
        _REFUSED,
        "The object was written under an older definition and breaks a rule of this one, it breaks a rule with the "
        "defaults of its class, or a field exceeds the "
        "[bounds](../explanation/limits.md#the-spec-itself): more than 64 levels deep, or more than 20,000 values.",
        "correct the field that the message names, and apply the agent again",
        "`kubectl agent validate` of its manifest lists all such fields. The running pods continue.",
    ),
    Reason(
        "PolicyRefused",
        _REFUSED,
        "The operator's policy does not allow a field of the spec, and nothing of the agent was changed.",
        "leave the field out, or ask the owner of the operator to allow it",
        "The message names each field, and the setting of the operator's chart that would allow it: "
        "[restrict agents](restrict-agents.md). Objects of an earlier spec stay.",
    ),
    Reason(
        "ClassRefused",
        _REFUSED,
        "The agent's class does not allow a field of the spec, or is not for this namespace, and nothing of the agent "
        "was changed.",
        "bring the fields that the message names within the bounds of the class, or ask its owner",
        "The message names each field and its bound: [classes](agent-classes.md). Objects of an earlier spec stay.",
    ),
    Reason(
        "ClassNotFound",
        _REFUSED,
        "`className` names a class that does not exist, and nothing of the agent was changed.",
        "create the class, or correct `className`",
        "`kubectl get agentclasses` lists them. An operator that serves single namespaces knows only those of its "
        "own chart (`classes`).",
    ),
    Reason(
        "ClassAmbiguous",
        _REFUSED,
        "The agent names no class, and several are the default; nothing of the agent was changed.",
        "remove the annotation `portside.dev/default-class` from all classes but one",
        "Or set `className`. Classes for different `namespaces` can each be a default.",
    ),
    Reason(
        "ClassInvalid",
        _REFUSED,
        "The agent's class was written under another definition and breaks a rule of this one.",
        "correct the fields of the class that the message names",
    ),
    Reason(
        "NameConflict",
        _REFUSED,
        "An object has a name that the agent needs and belongs to another owner.",
        "do as the message says",
        "It names the object. Rename the agent, delete the object, or have it "
        "[taken over](move-between-helm-and-operator.md) if it belongs to a Helm release: the message has the command "
        "with which the owner of the object consents. Nothing is taken over without it.",
    ),
    Reason(
        "KindNotInstalled",
        _REFUSED,
        "`httpRoute.enabled`, `monitoring.serviceMonitor.enabled` or `autoscaling.engine: keda` is set, and the "
        "cluster does not serve that kind.",
        "install the definitions, or leave it out of the spec",
        "Gateway API, prometheus-operator and KEDA bring them. The rest of the agent works without.",
    ),
    Reason(
        "ToolServerUnresolved",
        "Degraded; Ready is False with `onUnavailable: fail`",
        "A `serverRef` in `tools` has no address that the agent can use.",
        "do as the message says",
        "It names the entry and the object: it does not exist, its product has not published an address yet, it uses "
        "another transport than streamable HTTP, or the operator may not read it. Until then the server counts as "
        "unavailable, and `onUnavailable` decides about turns; but if the object had an address and was deleted, that "
        "address stays in use. The operator reads it again every ten seconds. See "
        "[connect tools](tools.md#by-reference).",
    ),
    Reason(
        "ApplyRefused",
        _REFUSED,
        "The API server or an admission webhook refused an object, and a retry would not help.",
        "correct in the spec what the message objects to",
        "It is usually a field that only Kubernetes checks (`affinity`, a volume, a port). The operator retries when "
        "the spec changes, and every few minutes.",
    ),
    Reason(
        "ApplyFailing",
        _REFUSED,
        "The API server fails repeatedly to write an object.",
        "check that the API server and its admission webhooks work",
        "The cause is usually a webhook that does not answer: "
        "`kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations`. The operator retries.",
    ),
    Reason(
        "QuotaExceeded",
        "Ready may be False, Degraded",
        "A ResourceQuota leaves no room for an object or a pod.",
        "raise the ResourceQuota of the namespace, or ask for less",
        "`kubectl describe quota` shows it; `resources` and `replicas` are what the agent asks for. Existing pods "
        "continue.",
    ),
    Reason(
        "PodsRefused",
        "Degraded",
        "An admission rule refuses the agent's pods.",
        "correct what the message objects to",
        "Under Pod Security, check what you added: `sidecars`, `initContainers`, `securityContext`.",
    ),
    Reason(
        "BudgetUsedUp",
        "WithinBudget is False",
        "The agent used all of its `budget` of this day or month, and with `action: stop` it answers 429.",
        "raise `budget`, or wait until the day or month (UTC) is over",
        "See [set a budget](set-a-budget.md). Tasks wait, and fail at their deadline (`TASK_DEADLINE_SECONDS`, one "
        "hour by default).",
    ),
    Reason(
        "UsageNotReported",
        "WithinBudget is Unknown",
        "No pod of the agent reports to the operator how much of its budget is used.",
        "let the operator reach port 9090 of the agent's pods, with `networkPolicy.scrapeFrom`",
        "Check policies of your own too. The pods have to be ready. After a change of the budget only pods with the "
        "new budget count, and while Redis is unavailable, pods that never reached it do not know (`/health`, "
        "component `budget`). The percentage in the status is the last one that was reported.",
    ),
    Reason(
        "SecretMissing",
        "Degraded",
        "Pods wait for a Secret that does not exist.",
        "create the Secret that the message names, in the agent's namespace",
        "The pods then start within about a minute.",
    ),
    Reason(
        "ConfigMapMissing",
        "Degraded",
        "Pods wait for a ConfigMap that does not exist.",
        "create the ConfigMap that the message names",
        "Or correct `agent.systemPromptFrom`, `runtime.code`, `envFrom` or `extraVolumes`, whichever names it.",
    ),
    Reason(
        "SecretKeyMissing",
        "Degraded",
        "The Secret exists and lacks the key that the spec names.",
        "add the key to the Secret, or name the key that it has",
        "The fields are `apiKey.secretKey`, `auth.secretKey` and `redis.secretKey`.",
    ),
    Reason(
        "ConfigMapKeyMissing",
        "Degraded",
        "The ConfigMap exists and lacks the key that the spec names.",
        "add the key to the ConfigMap, or name the key that it has",
        "The field is `agent.systemPromptFrom.configMapKeyRef.key` or `runtime.code.configMapKeyRef.key`.",
    ),
    Reason(
        "MountFailed",
        "Degraded",
        "The kubelet cannot mount the folder of secrets, or the file or system prompt of the runtime.",
        "correct what the message names",
        "`kubectl describe pod` shows the kubelet's events.",
    ),
    Reason(
        "ImagePullBackOff",
        "Degraded",
        "The image cannot be pulled.",
        "check `image` or `runtime.image`, its pull policy, and `imagePullSecrets`",
        "See [private registry](private-registry.md). The previous revision continues to serve.",
    ),
    Reason(
        "OOMKilled",
        "Degraded",
        "A container used more memory than its limit.",
        "raise `resources.limits.memory`, or `runtime.resources.limits.memory` for the container `runtime`",
        "Long conversations and many requests in flight need more.",
    ),
    Reason(
        "CrashLoopBackOff",
        "Degraded",
        "A container exits repeatedly; the message has its exit code.",
        "read `kubectl logs POD -c CONTAINER --previous`",
        "Code 2 of the container `agent` is a wrong setting, with one line for each. Its code 1 means that it could "
        "not start, for example because it cannot write to its state folder.",
    ),
    Reason(
        "RuntimeNotResponding",
        "Degraded",
        "The runtime runs, and does not respond with 2xx at its health path.",
        "do as the message says",
        "The kubelet probes the pod's address every second, and restarts the runtime after `runtime.startupSeconds`. "
        "No connection, no response and 5xx are reported after 15 seconds, the rest at once.\n\n"
        "| probe | cause | change |\n|---|---|---|\n"
        "| connection refused | another port, or only 127.0.0.1 | `runtime.port`, or the program: it has to listen on "
        "the port in `PORT`, on 0.0.0.0 |\n"
        "| 404 or another 4xx | no such path, or one that needs a login | `runtime.healthPath`, or `runtime.protocol`, "
        "which determines the default |\n"
        "| 503 or another 5xx | the program is busy, or fails | the program: it has to respond there also while it is "
        "busy |\n"
        "| malformed response, or EOF | not HTTP, or TLS | `runtime.port` |\n"
        "| timeout | the program starts slowly, or hangs | `runtime.startupSeconds` |\n\n"
        "`kubectl agent logs NAME -c runtime` shows what the program itself reports.",
    ),
    Reason(
        "CreateContainerConfigError",
        "Degraded",
        "The kubelet cannot prepare the container: an object that `extraEnv` or `envFrom` names is missing, or the "
        "image would run as root.",
        "create what the message names, or set a user",
        "For a runtime, set `runtime.securityContext.runAsUser`, beside the other fields of its default, or name the "
        "number of a user with `USER` in the image. The sample `runtime-image.yaml` has the other fields.",
    ),
    Reason(
        "CreateContainerError",
        "Degraded",
        "The container runtime cannot create the container.",
        "correct what the message names",
        "It is usually a volume mount or a command of your own.",
    ),
    Reason(
        "RunContainerError",
        "Degraded",
        "The container runtime cannot start the container.",
        "correct what the message names",
    ),
    Reason(
        "Unschedulable",
        "Degraded",
        "No node fits the pod.",
        "check `resources.requests`, `nodeSelector`, `tolerations`, `affinity` and `topologySpreadConstraints`",
        "The message counts the nodes by cause.",
    ),
    Reason(
        "ProgressDeadlineExceeded",
        "Degraded",
        "The new revision did not become available within ten minutes.",
        "find the cause among the other reasons, or revert the change",
        "The old revision continues to serve.",
    ),
    Reason(
        "PodsNotReady",
        "Ready is False",
        "Fewer pods are ready than desired, and no other reason explains it.",
        "run `kubectl agent doctor`, which asks each pod for the cause",
        "It is usually a key that the model API refuses.",
    ),
    Reason(
        "AwaitingAutoscaler",
        "ScalingActive is Unknown",
        "The cluster's controller has not evaluated the autoscaler yet.",
        "wait: it does so every 15 seconds",
        "If this stays, the cluster runs no HorizontalPodAutoscaler controller. With `autoscaling.engine: keda`, KEDA "
        "creates the autoscaler: `kubectl get pods -A -l app=keda-operator` shows whether it runs, and "
        "`kubectl get scaledobjects -n NS` the state of each ScaledObject.",
    ),
    Reason(
        "ScaledObjectNotReady",
        _SCALING,
        "KEDA creates no autoscaler from the agent's ScaledObject, so the number of pods does not change.",
        "correct what KEDA's message names",
        "`kubectl describe scaledobject NAME` and the log of KEDA's operator have more.",
    ),
    Reason(
        "ScaledObjectPaused",
        _SCALING,
        "KEDA was paused by an annotation, and removed its autoscaler.",
        "remove the annotations `autoscaling.keda.sh/paused…` from the ScaledObject",
        "`kubectl annotate scaledobject NAME autoscaling.keda.sh/paused- "
        "autoscaling.keda.sh/paused-replicas-` does so.",
    ),
    Reason(
        "AmbiguousSelector",
        _SCALING,
        "Two autoscalers scale the same pods, and Kubernetes uses neither.",
        "delete the autoscaler that is not the agent's",
        "`kubectl get hpa -n NS` lists them. After a change back from `engine: keda`, KEDA removes its own, "
        "`keda-hpa-NAME`. If KEDA is gone, delete it, and remove the finalizer from the ScaledObject.",
    ),
    Reason(
        "FailedGetResourceMetric",
        _SCALING,
        "The autoscaler receives no CPU or memory of the pods, so their number does not change.",
        "install metrics-server",
        "`kubectl top pods` has to work. While pods are starting this resolves itself.",
    ),
    Reason(
        "FailedGetPodsMetric",
        _SCALING,
        "The autoscaler receives no `agent_requests_in_flight` of the pods, so their number does not change.",
        "check that an adapter serves the metric",
        "`kubectl get --raw /apis/custom.metrics.k8s.io/v1beta2` has to list it: "
        "[scale on load](scale-on-load.md) describes the path from the pods to there.",
    ),
    Reason(
        "FailedGetObjectMetric",
        _SCALING,
        "The autoscaler of the workers receives no `agent_task_queue_depth` of the agent's Service, so their number "
        "does not change.",
        "check that an adapter serves the metric",
        "See [FailedGetPodsMetric](#failedgetpodsmetric).",
    ),
    Reason(
        "FailedGetExternalMetric",
        _SCALING,
        "KEDA receives no value from Prometheus, so the number of pods does not change.",
        "check that KEDA is running and reaches the Prometheus of `autoscaling.prometheusAddress`",
        "`kubectl describe scaledobject NAME` has KEDA's message. That Prometheus has to scrape the agent.",
    ),
    Reason(
        "MetricMissing",
        _SCALING,
        "The autoscaler uses several metrics, and one has no value.",
        "provide the metric that the message names",
        "Kubernetes adds pods by the metrics that have values, and removes none while one is missing. Each metric has "
        "its section above. With KEDA, `s1-prometheus` is the trigger at that index, from 0, of the ScaledObject.",
    ),
    Reason(
        "ModelAPIUnavailable",
        _UNAVAILABLE,
        "No pod that was checked can use the model API; callers get 503.",
        "check `agent.baseUrl`, `apiKey`, and that `networkPolicy` lets the pods out",
        "The message has the cause, as `/health` of a pod does: "
        "[the model API cannot be reached](#the-model-api-cannot-be-reached).",
    ),
    Reason(
        "RuntimeUnavailable",
        _UNAVAILABLE,
        "No pod that was checked can use its runtime; callers get an error.",
        "do as the message says",
        "A runtime that has never answered a turn, and lacks the path that is called or answers in another form, "
        "speaks another protocol: correct `runtime.protocol` or `runtime.path`. `/health` has the error.",
    ),
    Reason(
        "RedisUnavailable",
        _UNAVAILABLE,
        "No pod that was checked can use Redis; chat continues without memory, and tasks are refused.",
        "check `redis`, and the server",
        "The message has the cause. Check the [permissions of its "
        "user](redis-and-workers.md#a-user-with-few-rights) too.",
    ),
    Reason(
        "DependenciesUnavailable",
        _UNAVAILABLE,
        "At least two of the model API, the runtime and Redis cannot be used.",
        "check network policies, the cluster's DNS, and the network",
        "`kubectl agent doctor NAME` names the causes.",
    ),
    Reason(
        "ToolServersUnavailable",
        _NO_TOOLS,
        "No pod that was checked can use a server of `tools`; the agent answers without its tools.",
        "do as the message says, or check the server",
        "The message has the cause for each server, as `/health` of a pod does. `kubectl agent doctor NAME` shows what "
        "each server answered.",
    ),
    Reason(
        "RequiredToolServersUnavailable",
        f"{_NO_TOOLS}; Degraded after 5 minutes",
        "No pod that was checked can use a server of `tools` with `onUnavailable: fail`; turns are answered with 503.",
        "do as the message says, check the server, or set `onUnavailable: continue`",
        "The message has the cause for each server.",
    ),
    Reason(
        "ApprovalsWaiting",
        "none: an Event of the type Normal",
        "Turns wait until a client decides on their tool calls; before, none waited.",
        "list the calls with `kubectl agent approvals NAME`, and decide on them",
        "`status.approvalsWaiting` has the current number of turns. See [approve tool calls](approvals.md).",
    ),
    Reason(
        "ToolDescriptionsChanged",
        "no condition, an Event",
        "A server of `tools` lists other names, descriptions or schemas than it did first for this generation of the "
        "spec.",
        "check that the descriptions are what the model should read, or narrow `allow`",
        "Descriptions are text for the model, so a server that changes them can change what the agent does. The "
        "message names the server; the log of a pod names the tools (`Tools of a server changed`). "
        "`status.toolServers` has the hash that counts now.",
    ),
    Reason(
        "NotReported",
        "DependenciesReachable or ToolsReady is Unknown",
        "No ready pod answers the operator on port 9090, so it is unknown whether the pods can use their dependencies "
        "and the servers of their tools; or its image does not report the latter.",
        "let the operator reach port 9090 of the agent's pods, with `networkPolicy.scrapeFrom`",
    ),
    Reason(
        "ChangedByAdmission",
        "Drifted",
        "An admission webhook or policy changes an object of the agent at each write; the operator leaves it so.",
        "exempt the namespace from the webhook, or set the field in the spec as the webhook does",
        "The message names the change.",
    ),
    Reason(
        "ChangedAgain",
        "Drifted",
        "Another controller or user adds again what the operator removes; after five times in ten minutes it stays.",
        "stop the field manager that the message names, or set the field in the spec",
    ),
    Reason(
        "ScalingDisabled",
        _SCALING,
        "The Deployment was set to 0 replicas, which an autoscaler does not change.",
        "run `kubectl scale deployment/NAME --replicas=1`",
    ),
)

REASONS = {each.name: each for each in _ALL}
