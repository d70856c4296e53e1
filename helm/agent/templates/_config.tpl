{{/* The agent API's settings, under the names of its environment variables: the data of the ConfigMap. */}}
{{- define "agent.settings" -}}
AGENT_NAME: {{ include "agent.fullname" . | quote }}
{{- with .Values.agent }}
{{- with .description }}
AGENT_DESCRIPTION: {{ . | quote }}
{{- end }}
MODEL_PROVIDER: {{ .provider | quote }}
DEFAULT_MODEL: {{ .model | quote }}
MAX_TOKENS: {{ .maxTokens | toJson | quote }}
REQUEST_TIMEOUT_SECONDS: {{ .requestTimeoutSeconds | toJson | quote }}
{{- with .streamTimeoutSeconds }}
STREAM_TIMEOUT_SECONDS: {{ . | toJson | quote }}
{{- end }}
ENVIRONMENT: {{ .environment | quote }}
{{- with .systemPrompt }}
SYSTEM_PROMPT: {{ . | quote }}
{{- end }}
{{- if kindIs "bool" .allowSystemPrompt }}
ALLOW_SYSTEM_PROMPT: {{ .allowSystemPrompt | quote }}
{{- end }}
{{- with .baseUrl }}
ANTHROPIC_BASE_URL: {{ . | quote }}
{{- end }}
{{- end }}
{{- if include "agent.secretSources" . }}
SECRETS_DIR: /etc/portside/secrets
{{- end }}
{{- with .Values.rateLimit }}
RATE_LIMIT_REQUESTS: {{ .requestsPerMinute | toJson | quote }}
{{- with .tokensPerMinute }}
TOKENS_PER_MINUTE: {{ . | toJson | quote }}
{{- end }}
{{- range $kind, $share := dict "CLIENT" .perClient "TENANT" .perTenant }}
{{- with $share }}
{{- with .requestsPerMinute }}
{{ $kind }}_RATE_LIMIT_REQUESTS: {{ . | toJson | quote }}
{{- end }}
{{- with .tokensPerMinute }}
{{ $kind }}_TOKENS_PER_MINUTE: {{ . | toJson | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .trustedProxies }}
TRUSTED_PROXIES: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- if .Values.sidecars }}
ALLOWED_HOSTS: "*"
{{- end }}
{{- with .Values.cors.origins }}
CORS_ORIGINS: {{ join "," . | quote }}
{{- end }}
{{- if .Values.cors.allowCredentials }}
CORS_ALLOW_CREDENTIALS: "true"
{{- end }}
{{- if include "agent.hasRedis" . }}
{{- with .Values.redis.url }}
REDIS_URL: {{ . | quote }}
{{- end }}
STATE_PREFIX: {{ printf "%s/%s" .Release.Namespace (include "agent.fullname" .) | quote }}
API_RUNS_TASKS: {{ ternary "false" "true" .Values.worker.enabled | quote }}
{{- if .Values.worker.enabled }}
WORKER_CONCURRENCY: {{ .Values.worker.concurrency | toJson | quote }}
{{- end }}
{{- end }}
{{- with .Values.budget }}
BUDGET_PERIOD: {{ .period | default "month" | quote }}
BUDGET_ACTION: {{ .action | default "stop" | quote }}
{{- with .tokens }}
BUDGET_TOKENS: {{ . | toJson | quote }}
{{- end }}
{{- with .cost }}
BUDGET_COST: {{ . | quote }}
{{- end }}
{{- range $kind, $share := dict "CLIENT" .perClient "TENANT" .perTenant }}
{{- with $share }}
{{- with .tokens }}
{{ $kind }}_BUDGET_TOKENS: {{ . | toJson | quote }}
{{- end }}
{{- with .cost }}
{{ $kind }}_BUDGET_COST: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with get (.prices | default dict) $.Values.agent.model }}
PRICE_INPUT: {{ .input | quote }}
PRICE_OUTPUT: {{ .output | quote }}
{{- with .cacheWrite }}
PRICE_CACHE_WRITE: {{ . | quote }}
{{- end }}
{{- with .cacheRead }}
PRICE_CACHE_READ: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- include "agent.tracing" . }}
{{- include "agent.runtimeSettings" . }}
{{- include "agent.toolSettings" . }}
{{- include "agent.protocolSettings" . }}
{{- include "agent.providerSettings" . }}
{{- include "agent.identitySettings" . }}
{{- include "agent.fallbackSettings" . }}
{{- with .Values.auth.usageReaders }}
USAGE_READERS: {{ join "," . | quote }}
{{- end }}
{{- if .Values.auth.jwt }}
JWT_FILE: /etc/portside/secrets/jwt.json
{{- end }}
LOG_LEVEL: {{ .Values.logging.level | quote }}
LOG_FORMAT: {{ .Values.logging.format | quote }}
METRICS_PORT: "9090"
{{- end }}

{{/* The client protocols, as far as the values set them. */}}
{{- define "agent.protocolSettings" -}}
{{- $api := .Values.api | default dict }}
{{- range $name, $field := dict "OPENAI" "openai" "ANTHROPIC" "anthropic" "A2A" "a2a" "MCP" "mcp" "CLIENT_TOOLS" "clientTools" }}
{{- if hasKey $api $field }}
API_{{ $name }}: {{ get $api $field | quote }}
{{- end }}
{{- end }}
{{- with $api.maxBodyBytes }}
API_MAX_BODY_BYTES: {{ . | toJson | quote }}
{{- end }}
{{- with $api.maxInputTokens }}
API_MAX_INPUT_TOKENS: {{ . | toJson | quote }}
{{- end }}
{{- end }}

{{/* What existing clients are given, for the notes; nothing if all paths are the runtime's. */}}
{{- define "agent.addressesOfClients" -}}
{{- $api := .Values.api | default dict }}
{{- $port := int .Values.service.port }}
{{- $host := printf "http://%s.%s.svc%s" (include "agent.fullname" .) .Release.Namespace (ternary "" (printf ":%d" $port) (eq $port 80)) }}
{{- $lines := list }}
{{- if ne "false" (get $api "openai" | toString) }}
{{- $lines = append $lines (printf "OPENAI_BASE_URL=%s/v1" $host) }}
{{- end }}
{{- if ne "false" (get $api "anthropic" | toString) }}
{{- $lines = append $lines (printf "ANTHROPIC_BASE_URL=%s" $host) }}
{{- end }}
{{- if ne "false" (get $api "a2a" | toString) }}
{{- $lines = append $lines (printf "A2A card: %s/.well-known/agent-card.json" $host) }}
{{- end }}
{{- if $api.mcp }}
{{- $lines = append $lines (printf "MCP server: %s/mcp" $host) }}
{{- end }}
{{- if and $lines (not (include "agent.isProxy" .)) }}

Existing clients reach it with these addresses{{ if .Values.auth.enabled }}, and with a client key as the API key or bearer token{{ end }}:
{{ range $lines }}
- {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where traces go, and under which name; nothing without a collector. */}}
{{- define "agent.tracing" -}}
{{- with .Values.monitoring.tracing }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_SERVICE_NAME: {{ include "agent.fullname" $ | quote }}
OTEL_RESOURCE_ATTRIBUTES: {{ printf "service.namespace=%[1]s,k8s.namespace.name=%[1]s" $.Release.Namespace | quote }}
{{- end }}
{{- end }}

{{/* Whether the agent's state is in a Redis: a word or nothing. */}}
{{- define "agent.hasRedis" -}}
{{- if or .Values.redis.url .Values.redis.secretName }}yes{{ end }}
{{- end }}

{{/* The secrets that the values themselves hold, by their file names. */}}
{{- define "agent.secrets" -}}
{{- with .Values.apiKey.value -}}
ANTHROPIC_API_KEY: {{ . | quote }}
{{- end }}
{{- end }}

{{/* A mapping as sorted lines KEY=VALUE. */}}
{{- define "agent.lines" -}}
{{- range $key, $value := . }}{{ printf "%s=%s\n" $key $value }}{{ end }}
{{- end }}

{{/* Changes when the settings or the secrets do: on the pod template, it replaces the pods, which read them at start. */}}
{{- define "agent.configChecksum" -}}
{{- $settings := include "agent.settings" . | fromYaml }}
{{- $secrets := include "agent.secrets" . | fromYaml }}
{{- $tools := include "agent.toolsFile" . | fromYaml }}
{{- printf "%s%s%s" (include "agent.lines" $settings) (include "agent.lines" $secrets) (include "agent.lines" $tools) | sha256sum }}
{{- end }}

{{/*
What the pods' folder of secrets is made of (ProjectedVolumeSource); nothing when there is nothing in it. Each setting is a
file of its name, which the service reads again when it changes.
*/}}
{{- define "agent.secretSources" -}}
{{- with .Values.apiKey }}
{{- if .value }}
- secret: {name: {{ include "agent.fullname" $ | quote }}, items: [{key: ANTHROPIC_API_KEY, path: ANTHROPIC_API_KEY}]}
{{- else if .secretName }}
- secret: {name: {{ .secretName | quote }}, items: [{key: {{ .secretKey | quote }}, path: ANTHROPIC_API_KEY}]}
{{- end }}
{{- end }}
{{- include "agent.cloudSources" . }}
{{- include "agent.clientKeySources" . }}
{{- if .Values.auth.jwt }}
- configMap: {name: {{ include "agent.jwtName" . | quote }}, items: [{key: jwt.json, path: jwt.json}]}
{{- end }}
{{- with .Values.redis }}
{{- if .secretName }}
- secret: {name: {{ .secretName | quote }}, items: [{key: {{ .secretKey | quote }}, path: REDIS_URL}]}
{{- end }}
{{- end }}
{{- with (.Values.agent.systemPromptFrom | default dict).configMapKeyRef }}
- configMap: {name: {{ .name | quote }}, items: [{key: {{ .key | quote }}, path: SYSTEM_PROMPT}]}
{{- end }}
{{- end }}

{{/* The part of it that is client keys. */}}
{{- define "agent.clientKeySources" -}}
{{- with .Values.auth }}
{{- if and .enabled .existingSecret }}
- secret: {name: {{ .existingSecret | quote }}, items: [{key: {{ .secretKey | quote }}, path: API_KEYS}]}
{{- else if .enabled }}
- secret: {name: {{ include "agent.clientKeysName" $ | quote }}, items: [{key: API_KEYS, path: API_KEYS}]}
{{- end }}
{{- end }}
{{- end }}

{{/*
Defaults of free-form maps stand here and not in values.yaml: Helm would merge what is given into them, where it has to
take their place.
*/}}
{{- define "agent.podSecurityDefault" -}}
{{- dict "runAsNonRoot" true "runAsUser" 10001 "runAsGroup" 10001 "fsGroup" 10001 "seccompProfile" (dict "type" "RuntimeDefault") | toJson }}
{{- end }}

{{- define "agent.podSecurityContext" -}}
{{- $default := include "agent.podSecurityDefault" . | fromJson }}
{{- with hasKey .Values "podSecurityContext" | ternary .Values.podSecurityContext $default }}
{{- include "agent.verbatim" . }}
{{- end }}
{{- end }}

{{- define "agent.securityContext" -}}
{{- $default := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- with hasKey .Values "securityContext" | ternary .Values.securityContext $default }}
{{- include "agent.verbatim" . }}
{{- end }}
{{- end }}

{{/* Of a container that the user provides, as JSON. */}}
{{- define "agent.hardened" -}}
{{- dict "runAsNonRoot" true "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) | toJson }}
{{- end }}

{{/* Compute resources: amounts are text, the form in which the API server keeps them. Takes what was given. */}}
{{- define "agent.amounts" -}}
{{- $given := dict }}
{{- range $kind, $amounts := . }}
{{- range $name, $amount := $amounts }}
{{- $text := kindIs "string" $amount | ternary $amount (toJson $amount) }}
{{- $_ := set $given $kind (set (get $given $kind | default dict) $name $text) }}
{{- end }}
{{- end }}
{{- with $given }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "agent.resources" -}}
{{- $default := dict "requests" (dict "cpu" "100m" "memory" "256Mi") "limits" (dict "memory" "512Mi") }}
{{- include "agent.amounts" (hasKey .Values "resources" | ternary .Values.resources $default) }}
{{- end }}

{{- define "agent.workerResources" -}}
{{- if hasKey .Values.worker "resources" }}
{{- include "agent.amounts" .Values.worker.resources }}
{{- else }}
{{- include "agent.resources" . }}
{{- end }}
{{- end }}
