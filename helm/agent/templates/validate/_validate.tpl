{{/*
Rules across values, which a JSON Schema cannot say in words. The sentences are those of the operator's models
(operator/agent_operator/api): tests/cluster/test_chart_rules.py holds the two together.
*/}}
{{- define "agent.validate" -}}
{{- include "agent.validateDefaults" . }}
{{- /* The schema takes only the sentence that says why there is none. */}}
{{- with .Values.className }}
{{- fail . }}
{{- end }}
{{- $name := include "agent.fullname" . }}
{{- if or (gt (len $name) 53) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) }}
{{- fail "metadata.name must be at most 53 lower-case letters, digits and '-', begin with a letter and end with a letter or digit, because it becomes the name of the Service: choose another name" }}
{{- end }}
{{- with .Values.apiKey }}
{{- if and .value .secretName }}
{{- fail "set apiKey.secretName or apiKey.value, not both: remove one of them" }}
{{- end }}
{{- if and (eq $.Values.agent.provider "anthropic") (or (not $.Values.runtime) (hasKey $.Values.agent "fallbacks")) (not .value) (not .secretName) (not (include "agent.identity" $)) }}
{{- fail "provider anthropic needs a key: set apiKey.secretName to a Secret that contains it (or apiKey.value for a trial), or set agent.provider to echo" }}
{{- end }}
{{- end }}
{{- include "agent.validateProvider" . }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other" }}
{{- end }}
{{- with .Values.autoscaling }}
{{- $byRequests := and .enabled .targetInFlightRequests }}
{{- $byQueue := and $.Values.worker.enabled $.Values.worker.autoscaling.enabled }}
{{- if and (eq (.engine | default "hpa") "keda") (or $byRequests $byQueue) (not .prometheusAddress) }}
{{- fail "autoscaling.engine keda queries Prometheus for requests in flight and tasks: set autoscaling.prometheusAddress" }}
{{- end }}
{{- end }}
{{- with .Values.worker.autoscaling }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail "worker.autoscaling.minReplicas must not exceed worker.autoscaling.maxReplicas: lower one or raise the other" }}
{{- end }}
{{- end }}
{{- if and .Values.agent.systemPrompt .Values.agent.systemPromptFrom }}
{{- fail "set agent.systemPrompt or agent.systemPromptFrom, not both: remove one of them" }}
{{- end }}
{{- with .Values.redis }}
{{- if and .url .secretName }}
{{- fail "set redis.url or redis.secretName, not both: remove one of them" }}
{{- end }}
{{- if not (regexMatch "^[^?&#@]*([?&](client_name|db|health_check_interval|max_connections|protocol|retry_on_timeout|timeout|socket_(connect_timeout|keepalive|timeout)|ssl_(ca_certs|ca_path|cert_reqs|certfile|check_hostname|ciphers|keyfile|min_version))=[^?&#@;]*)*$" (.url | default "")) }}
{{- fail "redis.url must not contain a password or an option that may contain one: store the address in a Secret and set redis.secretName to its name" }}
{{- end }}
{{- if and $.Values.worker.enabled (not .url) (not .secretName) }}
{{- fail "worker.enabled needs redis, which stores the tasks: set redis.url or redis.secretName" }}
{{- end }}
{{- end }}
{{- with .Values.budget }}
{{- if not (or .tokens .cost .perClient .perTenant) }}
{{- fail "budget needs a limit: set budget.tokens, budget.cost, budget.perClient or budget.perTenant" }}
{{- end }}
{{- if not (include "agent.hasRedis" $) }}
{{- fail "budget needs redis, which stores the usage: set redis.url or redis.secretName" }}
{{- end }}
{{- if and .cost (not (trimAll "0." .cost)) }}
{{- fail "budget.cost must be more than 0: raise it, or remove it" }}
{{- end }}
{{- $costs := list .cost }}
{{- range list "perClient" "perTenant" }}
{{- if hasKey $.Values.budget . }}
{{- $share := get $.Values.budget . | default dict }}
{{- if not (ternary (trimAll "0." ($share.cost | default "0")) ($share.tokens | default "" | toString) (hasKey $share "cost")) }}
{{- fail "budget.perClient and perTenant need a limit above 0: set tokens or cost" }}
{{- end }}
{{- $costs = append $costs $share.cost }}
{{- end }}
{{- end }}
{{- $models := list $.Values.agent.model }}
{{- range $.Values.agent.fallbacks }}
{{- $models = append $models (.model | default $.Values.agent.model) }}
{{- end }}
{{- range $models }}
{{- if and (compact $costs) (not (hasKey ($.Values.budget.prices | default dict) .)) }}
{{- fail "budget.cost needs the prices of agent.model: add them to budget.prices, with the model's ID as the key, and those of the models of agent.fallbacks" }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: list the Gateway that the route attaches to" }}
{{- end }}
{{- with .Values.monitoring.serviceMonitor }}
{{- if gt (include "agent.milliseconds" (.scrapeTimeout | default "1ms") | int) (include "agent.milliseconds" .interval | int) }}
{{- fail "monitoring.serviceMonitor.scrapeTimeout must not exceed monitoring.serviceMonitor.interval: lower one or raise the other" }}
{{- end }}
{{- end }}
{{- if and .Values.cors.allowCredentials (has "*" (.Values.cors.origins | default list)) }}
{{- fail "cors.allowCredentials cannot be combined with the origin *: list the origins" }}
{{- end }}
{{- include "agent.validatePods" . }}
{{- include "agent.validateRuntime" . }}
{{- include "agent.validateTools" . }}
{{- include "agent.validateProtocols" . }}
{{- include "agent.validateRepeats" . }}
{{- $none := list "0" "0%" }}
{{- with .Values.rollout }}
{{- if and (has (toString .maxSurge) $none) (has (toString .maxUnavailable) $none) }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable cannot both be 0, as no pod could be replaced: raise one" }}
{{- end }}
{{- end }}
{{- $resources := .Values.resources | default dict }}
{{- $ofWorkers := .Values.worker.resources | default dict }}
{{- $labels := list .Values.podLabels .Values.monitoring.serviceMonitor.labels }}
{{- $annotations := list .Values.podAnnotations .Values.service.annotations .Values.ingress.annotations .Values.httpRoute.annotations .Values.serviceAccount.annotations }}
{{- $ofRuntime := (.Values.runtime | default dict).resources | default dict }}
{{- $amounts := list $resources.requests $resources.limits $ofWorkers.requests $ofWorkers.limits $ofRuntime.requests $ofRuntime.limits }}
{{- range .Values.tools }}
{{- with ((.mcp | default dict).sidecar | default dict).resources }}
{{- $amounts = concat $amounts (list .requests .limits) }}
{{- end }}
{{- end }}
{{- range concat (list .Values.nodeSelector) $labels $annotations $amounts }}
{{- include "agent.validateKeys" . }}
{{- end }}
{{- range $labels }}
{{- range $key := keys (. | default dict) }}
{{- if hasPrefix "app.kubernetes.io/" $key }}
{{- fail "labels under app.kubernetes.io/ are set by Portside: choose another prefix" }}
{{- end }}
{{- end }}
{{- end }}
{{- range .Values.tolerations }}
{{- include "agent.validateToleration" . }}
{{- end }}
{{- end }}

{{/*
Helm removes a value that is null together with its default, before it looks at the schema. These have no other default:
without them there would be an empty setting, or no object at all.
*/}}
{{- define "agent.validateDefaults" -}}
{{- $sections := dict
  "agent" (list "provider" "model" "maxTokens" "requestTimeoutSeconds" "environment")
  "apiKey" (list "secretKey")
  "auth" (list "enabled" "secretKey")
  "autoscaling" (list "enabled" "minReplicas" "maxReplicas")
  "cors" (list "allowCredentials")
  "httpRoute" (list "enabled")
  "image" (list "repository" "pullPolicy")
  "ingress" (list "enabled" "path" "pathType")
  "logging" (list "level" "format")
  "monitoring" (list "serviceMonitor")
  "monitoring.serviceMonitor" (list "enabled" "interval")
  "networkPolicy" (list "enabled")
  "podDisruptionBudget" (list "enabled" "maxUnavailable")
  "rateLimit" (list "requestsPerMinute" "tokensPerMinute")
  "redis" (list "secretKey")
  "replicas" list
  "rollout" (list "strategy" "maxSurge" "maxUnavailable")
  "service" (list "type" "port")
  "serviceAccount" (list "create")
  "worker" (list "enabled" "replicas" "concurrency" "autoscaling")
  "worker.autoscaling" (list "enabled" "minReplicas" "maxReplicas" "targetQueueDepth")
}}
{{- range $section, $fields := $sections }}
{{- $holder := $.Values }}
{{- range $part := splitList "." $section }}
{{- if not (hasKey $holder $part) }}
{{- include "agent.failNull" $section }}
{{- end }}
{{- $holder = get $holder $part }}
{{- end }}
{{- range $field := $fields }}
{{- if not (hasKey $holder $field) }}
{{- include "agent.failNull" (printf "%s.%s" $section $field) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agent.failNull" -}}
{{- fail (printf "%s is null, which takes its default away: leave it out to have the default, or give it a value" .) }}
{{- end }}

{{/* Whether every key of a mapping is a qualified name (Kubernetes: "Labels and Selectors", syntax). */}}
{{- define "agent.validateKeys" -}}
{{- range $key := keys (. | default dict) }}
{{- if or (gt (len $key) 317) (not (regexMatch "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $key)) }}
{{- fail (printf "%s: each key must be a qualified name: letters, digits, '-', '_' and '.', with an optional prefix like 'example.com/'" $key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* How long a duration of the schema's form is. */}}
{{- define "agent.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 }}
{{- mul (regexFind "^[0-9]+" .) (get $units (regexFind "[a-z]+$" .)) }}
{{- end }}

{{/* What the API server asks of a toleration. */}}
{{- define "agent.validateToleration" -}}
{{- if and (eq (.operator | default "Equal") "Exists") (hasKey . "value") }}
{{- fail "a toleration with operator Exists takes no value: remove `value`, or use operator Equal" }}
{{- end }}
{{- if not (or .key (eq (.operator | default "Equal") "Exists")) }}
{{- fail "a toleration without a key needs operator Exists: set `key`, or `operator: Exists`" }}
{{- end }}
{{- if and (hasKey . "tolerationSeconds") (ne (.effect | default "") "NoExecute") }}
{{- fail "tolerationSeconds needs effect NoExecute: set `effect: NoExecute`, or remove `tolerationSeconds`" }}
{{- end }}
{{- end }}

{{/* What is Portside's own in the pods. */}}
{{- define "agent.validatePods" -}}
{{- $runtime := .Values.runtime | default dict }}
{{- $variables := concat (.Values.extraEnv | default list) ($runtime.env | default list) }}
{{- $sources := concat (.Values.envFrom | default list) ($runtime.envFrom | default list) }}
{{- $mounts := .Values.extraVolumeMounts | default list }}
{{- range .Values.tools }}
{{- with (.mcp | default dict).sidecar }}
{{- $variables = concat $variables (.env | default list) }}
{{- $sources = concat $sources (.envFrom | default list) }}
{{- $mounts = concat $mounts (.volumeMounts | default list) }}
{{- end }}
{{- end }}
{{- range $variables }}
{{- if and (hasKey . "value") (hasKey . "valueFrom") }}
{{- fail "a variable has value or valueFrom, not both: remove one of them" }}
{{- end }}
{{- end }}
{{- range $sources }}
{{- if eq (hasKey . "configMapRef") (hasKey . "secretRef") }}
{{- fail "set exactly one of configMapRef and secretRef" }}
{{- end }}
{{- end }}
{{- range .Values.extraVolumes }}
{{- if has .name (list "tmp" "secrets") }}
{{- fail "the volumes tmp and secrets are Portside's own: choose another name" }}
{{- end }}
{{- end }}
{{- range $mounts }}
{{- if has .mountPath (list "/tmp" "/etc/portside/secrets") }}
{{- fail "the folders /tmp and /etc/portside/secrets are mounted by Portside: choose another mountPath" }}
{{- end }}
{{- end }}
{{- range concat (.Values.initContainers | default list) (.Values.sidecars | default list) }}
{{- if eq .name "agent" }}
{{- fail "the container agent is Portside's own: choose another name" }}
{{- end }}
{{- end }}
{{- $sidecars := list }}
{{- range .Values.sidecars }}
{{- $sidecars = append $sidecars .name }}
{{- end }}
{{- range .Values.initContainers }}
{{- if has .name $sidecars }}
{{- fail "a container of initContainers and one of sidecars have the same name: rename one" }}
{{- end }}
{{- end }}
{{- $volumes := list "tmp" "secrets" }}
{{- range .Values.extraVolumes }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail "a mount in extraVolumeMounts refers to an unknown volume: add the volume to extraVolumes, or correct the name" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The runtime, and what is Portside's own while there is one. */}}
{{- define "agent.validateRuntime" -}}
{{- if hasKey .Values "runtime" }}
{{- $runtime := .Values.runtime }}
{{- if eq (hasKey $runtime "image") (hasKey $runtime "code") }}
{{- fail "set exactly one of runtime.image (an image that contains the agent) and runtime.code (a Python file in a ConfigMap)" }}
{{- end }}
{{- if and (hasKey $runtime "code") (or (hasKey $runtime "command") (hasKey $runtime "args") (hasKey $runtime "imagePullPolicy")) }}
{{- fail "runtime.command, runtime.args and runtime.imagePullPolicy have no effect with runtime.code: remove them, or set runtime.image instead of runtime.code" }}
{{- end }}
{{- if has (int $runtime.port) (list 8000 8089 9090) }}
{{- fail "runtime.port must not be 8000, 8089 or 9090, on which Portside's own container listens: choose another port" }}
{{- end }}
{{- range concat (.Values.initContainers | default list) (.Values.sidecars | default list) }}
{{- if eq .name "runtime" }}
{{- fail "with a runtime, the container runtime is Portside's own: rename the container in sidecars or initContainers" }}
{{- end }}
{{- end }}
{{- $volumes := list "runtime-tmp" }}
{{- range .Values.extraVolumes }}
{{- if has .name (list "runtime-tmp" "runtime-code" "runtime-prompt") }}
{{- fail "with a runtime, the volumes runtime-tmp, runtime-code and runtime-prompt are Portside's own: choose another name" }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- range $runtime.volumeMounts }}
{{- if has .mountPath (list "/tmp" "/etc/portside/agent" "/etc/portside/prompt") }}
{{- fail "the runtime's folders /tmp, /etc/portside/agent and /etc/portside/prompt belong to Portside: choose another mountPath" }}
{{- end }}
{{- if not (has .name $volumes) }}
{{- fail "a mount in runtime.volumeMounts refers to an unknown volume: add the volume to extraVolumes, or correct the name" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The tools, and what is Portside's own while there are any. */}}
{{- define "agent.validateTools" -}}
{{- if hasKey .Values "tools" }}
{{- $volumes := list }}
{{- range .Values.extraVolumes }}
{{- if or (eq .name "tools") (hasPrefix "tool-" .name) }}
{{- fail "with tools, the volume tools and those whose names begin with tool- are Portside's own: choose another name" }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if has .mountPath (list "/etc/portside/tools" "/etc/portside/tools/tools.json" "/var/run/portside/tool-secrets") }}
{{- fail "with tools, the folders /etc/portside/tools and /var/run/portside/tool-secrets are mounted by Portside: choose another mountPath" }}
{{- end }}
{{- end }}
{{- range concat (.Values.initContainers | default list) (.Values.sidecars | default list) }}
{{- if hasPrefix "tool-" .name }}
{{- fail "with tools, containers whose names begin with tool- are Portside's own: rename the container in sidecars or initContainers" }}
{{- end }}
{{- end }}
{{- $ports := list }}
{{- $builtins := list }}
{{- range .Values.tools }}
{{- include "agent.validateTool" . }}
{{- if has .builtin $builtins }}
{{- fail "two entries of tools have the same builtin: remove one of them" }}
{{- end }}
{{- $builtins = concat $builtins (compact (list .builtin)) }}
{{- $sidecar := (.mcp | default dict).sidecar }}
{{- range list .code $sidecar }}
{{- if . }}
{{- $port := .port | default 8090 | int }}
{{- if has $port $ports }}
{{- fail "two entries of tools have the same port: choose another port for one of them (mcp.sidecar.port, code.port)" }}
{{- end }}
{{- $ports = append $ports $port }}
{{- end }}
{{- end }}
{{- range ($sidecar | default dict).volumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail "a mount in the sidecar of a tool refers to an unknown volume: add the volume to extraVolumes, or correct the name" }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.runtime (has (.Values.runtime.port | default 8080 | int) $ports) }}
{{- fail "the port of a tool is that of the runtime: choose another port for one of them (mcp.sidecar.port, code.port, runtime.port)" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The client protocols. */}}
{{- define "agent.validateProtocols" -}}
{{- if hasKey .Values "api" }}
{{- if include "agent.isProxy" . }}
{{- fail "api has no effect with runtime.protocol http, as all paths are the runtime's own: remove api" }}
{{- end }}
{{- with .Values.api }}
{{- if .clientTools }}
{{- if hasKey $.Values "runtime" }}
{{- fail "api.clientTools needs the built-in agent, as a runtime is not given a client's tools: remove api.clientTools" }}
{{- end }}
{{- if and (eq "false" (get . "openai" | toString)) (eq "false" (get . "anthropic" | toString)) }}
{{- fail "api.clientTools needs api.openai or api.anthropic, whose clients send tools: enable one, or remove api.clientTools" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* One entry of the tools. */}}
{{- define "agent.validateTool" -}}
{{- if ne (len (pick . "mcp" "builtin" "code")) 1 }}
{{- fail "set exactly one of mcp (a server), builtin (a tool of the model API) and code (a Python file)" }}
{{- end }}
{{- if and (hasKey . "builtin") (pick . "allow" "approve" "timeoutSeconds" "maxResultBytes" "onUnavailable") }}
{{- fail "allow, approve, timeoutSeconds, maxResultBytes and onUnavailable have no effect with builtin, as the model API runs the tool: remove them" }}
{{- end }}
{{- $mcp := .mcp | default dict }}
{{- if and (hasKey . "mcp") (ne (len (pick $mcp "url" "serverRef" "sidecar")) 1) }}
{{- fail "set exactly one of mcp.url (an address), mcp.serverRef (an object that describes the server) and mcp.sidecar (a container beside the agent)" }}
{{- end }}
{{- if hasKey $mcp "serverRef" }}
{{- fail $mcp.serverRef }}
{{- end }}
{{- $authorizations := list }}
{{- $names := list }}
{{- range $mcp.headersFrom }}
{{- if has (lower .name) (list "accept" "accept-encoding" "connection" "content-length" "content-type" "host" "last-event-id" "te" "mcp-method" "mcp-name" "mcp-protocol-version" "mcp-session-id" "traceparent" "transfer-encoding") }}
{{- fail "the header is one that the client of the server sets itself: remove it" }}
{{- end }}
{{- if has (lower .name) $names }}
{{- fail "two headers in mcp.headersFrom have the same name, in which case does not count: remove one" }}
{{- end }}
{{- $names = append $names (lower .name) }}
{{- if eq (lower .name) "authorization" }}
{{- $authorizations = list "header" }}
{{- end }}
{{- end }}
{{- if gt (len (compact (concat $authorizations (list $mcp.auth $mcp.forwardCaller)))) 1 }}
{{- fail "a request has one header Authorization: set only one of mcp.auth, mcp.forwardCaller and the header Authorization in mcp.headersFrom" }}
{{- end }}
{{- with ($mcp.auth | default dict).clientCredentials }}
{{- if eq (hasKey . "clientId") (hasKey . "clientIdSecretKeyRef") }}
{{- fail "set exactly one of clientId and clientIdSecretKeyRef" }}
{{- end }}
{{- end }}
{{- range list .code $mcp.sidecar }}
{{- if has (int (. | default dict).port) (list 8000 8089 9090) }}
{{- fail "the port of a tool must not be 8000, 8089 or 9090, on which Portside's own container listens: choose another port" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Entries that the API server refuses as duplicates (the definition's list types), before anything is installed.
tests/cluster/test_chart_rules.py tries every such list of the definition.
*/}}
{{- define "agent.validateRepeats" -}}
{{- $keyed := dict
  "imagePullSecrets" (list "name")
  "topologySpreadConstraints" (list "topologyKey" "whenUnsatisfiable")
  "extraEnv" (list "name")
  "extraVolumes" (list "name")
  "extraVolumeMounts" (list "mountPath")
  "initContainers" (list "name")
  "sidecars" (list "name")
  "auth.jwt.issuers" (list "issuer")
  "runtime.env" (list "name")
  "runtime.volumeMounts" (list "mountPath")
}}
{{- $lists := dict "tools" .Values.tools }}
{{- range $index, $tool := .Values.tools }}
{{- with .mcp }}
{{- $_ := set $lists (printf "tools[%d].mcp.headersFrom" $index) .headersFrom }}
{{- with .sidecar }}
{{- $_ := set $lists (printf "tools[%d].mcp.sidecar.env" $index) .env }}
{{- $_ := set $lists (printf "tools[%d].mcp.sidecar.volumeMounts" $index) .volumeMounts }}
{{- end }}
{{- end }}
{{- end }}
{{- range $field := keys $keyed }}
{{- $entries := $.Values }}
{{- range splitList "." $field }}
{{- $entries = get ($entries | default dict) . }}
{{- end }}
{{- $_ := set $lists $field $entries }}
{{- end }}
{{- range $field, $entries := $lists }}
{{- $keys := get $keyed $field | default (hasSuffix ".volumeMounts" $field | ternary (list "mountPath") (list "name")) }}
{{- $seen := list }}
{{- range $index, $entry := ($entries | default list) }}
{{- $identity := list }}
{{- range $keys }}
{{- $identity = append $identity (get $entry . | default (eq . "whenUnsatisfiable" | ternary "ScheduleAnyway" "")) }}
{{- end }}
{{- if has (toJson $identity) $seen }}
{{- fail (printf "%s[%d] has the same %s as an earlier entry: remove or rename one of them" $field $index (join " and " $keys)) }}
{{- end }}
{{- $seen = append $seen (toJson $identity) }}
{{- end }}
{{- end }}
{{- $sets := dict
  "ingress.hosts" .Values.ingress.hosts
  "httpRoute.hostnames" .Values.httpRoute.hostnames
  "rateLimit.trustedProxies" .Values.rateLimit.trustedProxies
  "cors.origins" .Values.cors.origins
  "agent.models" .Values.agent.models
  "auth.usageReaders" .Values.auth.usageReaders
  "approvals.approvers" (.Values.approvals | default dict).approvers
}}
{{- range $index, $tool := .Values.tools }}
{{- $_ := set $sets (printf "tools[%d].allow" $index) .allow }}
{{- $_ := set $sets (printf "tools[%d].approve" $index) .approve }}
{{- with ((.mcp | default dict).auth | default dict).clientCredentials }}
{{- $_ := set $sets (printf "tools[%d].mcp.auth.clientCredentials.scopes" $index) .scopes }}
{{- end }}
{{- end }}
{{- range $index, $issuer := (.Values.auth.jwt | default dict).issuers }}
{{- $_ := set $sets (printf "auth.jwt.issuers[%d].audiences" $index) .audiences }}
{{- $_ := set $sets (printf "auth.jwt.issuers[%d].requiredScopes" $index) .requiredScopes }}
{{- end }}
{{- range $field, $entries := $sets }}
{{- range $index, $entry := ($entries | default list) }}
{{- if has $entry (slice $entries 0 $index) }}
{{- fail (printf "%s[%d] is the same as an earlier entry: remove or rename one of them" $field $index) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the API server would refuse in the middle of an upgrade: selectors never change (apps/v1, DeploymentSpec). */}}
{{- define "agent.validateSelectors" -}}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace (include "agent.fullname" .) }}
{{- with ((($there.spec | default dict).selector | default dict).matchLabels | default dict) }}
{{- $name := index . "app.kubernetes.io/name" | default "" }}
{{- if ne $name (include "agent.name" $) }}
{{- fail (printf "nameOverride cannot change while the Deployment %s is there, whose pods are found by the name %q: set it back, or uninstall the release first" (include "agent.fullname" $) $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Under an alias the agent had the release's name alone until 0.1.0: an upgrade would replace it and its Service. */}}
{{- define "agent.validateAlias" -}}
{{- if ne (include "agent.fullname" .) .Release.Name }}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace .Release.Name }}
{{- if hasPrefix (printf "%s-" .Chart.Name) (index (($there.metadata | default dict).labels | default dict) "helm.sh/chart" | default "") }}
{{- fail (printf "the Deployment %s is this agent under its earlier name: keep it with %s.fullnameOverride=%s, or uninstall the release first" .Release.Name .Chart.Name .Release.Name) }}
{{- end }}
{{- end }}
{{- end }}
