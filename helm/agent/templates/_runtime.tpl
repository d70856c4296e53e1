{{/*
The runtime: the container of the user's own agent, a native sidecar in each pod (Kubernetes: "Sidecar Containers").
A field that is unset has its default here: `runtime` has none in values.yaml, as most agents have no runtime.
*/}}
{{- define "agent.runtime" -}}
{{- $root := . }}
{{- with .Values.runtime -}}
- name: runtime
  {{- if .code }}
  image: {{ include "agent.image" $root | quote }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  args: [runtime, --host, "::", --loopback-only, {{ printf "/etc/portside/agent/%s" .code.configMapKeyRef.key | quote }}]
  {{- else }}
  image: {{ .image | quote }}
  {{- with .imagePullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  {{- with .command }}
  command: {{ include "agent.verbatim" . }}
  {{- end }}
  {{- with .args }}
  args: {{ include "agent.verbatim" . }}
  {{- end }}
  {{- end }}
  restartPolicy: Always
  {{- with .workingDir }}
  workingDir: {{ . | quote }}
  {{- end }}
  {{- with .envFrom }}
  envFrom: {{ include "agent.verbatim" . }}
  {{- end }}
  env:
    {{- $given := list }}
    {{- range .env }}
    {{- $given = append $given .name }}
    {{- end }}
    {{- range $name, $value := include "agent.runtimeVariables" $root | fromYaml }}
    {{- if not (has $name $given) }}
    - name: {{ $name }}
      value: {{ $value | quote }}
    {{- end }}
    {{- end }}
    {{- range .env }}
    - {{ include "agent.verbatim" . }}
    {{- end }}
  volumeMounts:
    - name: runtime-tmp
      mountPath: /tmp
    {{- if .code }}
    - name: runtime-code
      mountPath: /etc/portside/agent
      readOnly: true
    {{- end }}
    {{- if include "agent.runtimePrompt" $root }}
    - name: runtime-prompt
      mountPath: /etc/portside/prompt
      readOnly: true
    {{- end }}
    {{- range .volumeMounts }}
    - {{ include "agent.verbatim" . }}
    {{- end }}
  {{- $resources := dict "requests" (dict "cpu" "100m" "memory" "256Mi") "limits" (dict "memory" "1Gi") }}
  {{- with include "agent.amounts" (hasKey . "resources" | ternary .resources $resources) }}
  resources:
    {{- . | nindent 4 }}
  {{- end }}
  {{- $healthPaths := dict "invocations" "/ping" "a2a" "/.well-known/agent-card.json" "openai" "/health" "http" "/" }}
  {{- $path := .healthPath | default (get $healthPaths (.protocol | default "invocations")) }}
  {{- $get := dict "path" $path "port" (.port | default 8080) | include "agent.verbatim" }}
  startupProbe:
    httpGet: {{ $get }}
    periodSeconds: 1
    failureThreshold: {{ .startupSeconds | default 120 }}
    timeoutSeconds: 1
  # More lenient than for Portside's own container: a program of one thread answers no probe during a turn.
  livenessProbe:
    httpGet: {{ $get }}
    periodSeconds: 10
    failureThreshold: 30
    timeoutSeconds: 5
  readinessProbe:
    httpGet: {{ $get }}
    periodSeconds: 5
    failureThreshold: 3
    timeoutSeconds: 5
  terminationMessagePolicy: FallbackToLogsOnError
  {{- with hasKey . "securityContext" | ternary .securityContext (include "agent.hardened" . | fromJson) }}
  securityContext: {{ include "agent.verbatim" . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Whether all requests are handed to the runtime, so that there is no /chat: a word or nothing. */}}
{{- define "agent.isProxy" -}}
{{- with .Values.runtime }}
{{- if eq (.protocol | default "invocations") "http" }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Variables of the runtime, which those of the user replace. */}}
{{- define "agent.runtimeVariables" -}}
PORT: {{ .Values.runtime.port | default 8080 | quote }}
ANTHROPIC_BASE_URL: http://127.0.0.1:8089
ANTHROPIC_API_KEY: portside-gateway
ANTHROPIC_MODEL: {{ .Values.agent.model | quote }}
OPENAI_BASE_URL: http://127.0.0.1:8089/v1
OPENAI_API_KEY: portside-gateway
PORTSIDE_MAX_TOKENS: {{ .Values.agent.maxTokens | toJson | quote }}
{{- if .Values.tools }}
PORTSIDE_MCP_URL: http://127.0.0.1:8089/mcp
{{- end }}
PORTSIDE_MODEL: {{ .Values.agent.model | quote }}
{{- if include "agent.runtimePrompt" . }}
PORTSIDE_SYSTEM_PROMPT_FILE: /etc/portside/prompt/SYSTEM_PROMPT
{{- end }}
{{- include "agent.tracing" . }}
AGENT_NAME: {{ include "agent.fullname" . | quote }}
AGENT_NAMESPACE: {{ .Release.Namespace | quote }}
{{- end }}

{{/* The settings by which the agent API reaches the runtime, and the runtime the model API; nothing without a runtime. */}}
{{- define "agent.runtimeSettings" -}}
{{- with .Values.runtime }}
RUNTIME_URL: http://127.0.0.1:{{ .port | default 8080 }}
RUNTIME_PROTOCOL: {{ .protocol | default "invocations" }}
{{- with .path }}
RUNTIME_PATH: {{ . | quote }}
{{- end }}
{{- with .healthPath }}
RUNTIME_HEALTH_PATH: {{ . | quote }}
{{- end }}
GATEWAY_PORT: "8089"
{{- with $.Values.agent.models }}
GATEWAY_MODELS: {{ join "," . | quote }}
{{- end }}
GATEWAY_MAX_TOKENS: {{ .maxTokens | default 128000 | toJson | quote }}
GATEWAY_PROMPT_CACHING: {{ kindIs "bool" .promptCaching | ternary .promptCaching true | quote }}
{{- end }}
{{- end }}

{{/* Source of the instructions that the runtime reads as a file: a ConfigMap's name and key as YAML, or nothing. */}}
{{- define "agent.runtimePrompt" -}}
{{- with .Values.agent }}
{{- if .systemPromptFrom }}
{{- pick .systemPromptFrom.configMapKeyRef "name" "key" | toJson }}
{{- else if .systemPrompt }}
{{- dict "name" (include "agent.fullname" $) "key" "SYSTEM_PROMPT" | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/* The runtime's own volumes, none of which contains a Secret; nothing without a runtime. */}}
{{- define "agent.runtimeVolumes" -}}
{{- with .Values.runtime }}
- name: runtime-tmp
  emptyDir: {}
{{- with .code }}
- name: runtime-code
  configMap:
    name: {{ .configMapKeyRef.name | quote }}
    items: [{key: {{ .configMapKeyRef.key | quote }}, path: {{ .configMapKeyRef.key | quote }}}]
{{- end }}
{{- with include "agent.runtimePrompt" $ | fromYaml }}
- name: runtime-prompt
  configMap:
    name: {{ .name | quote }}
    items: [{key: {{ .key | quote }}, path: SYSTEM_PROMPT}]
{{- end }}
{{- end }}
{{- end }}

{{/*
The user and group that containers other than the runtime and the tools name themselves, as JSON. A container cannot undo a
user that the pod sets. With a runtime or the sidecar of a tool, the default therefore names none for the pod, and these
have the user of their image.
*/}}
{{- define "agent.userOfContainers" -}}
{{- $default := include "agent.podSecurityDefault" . }}
{{- $isDefault := hasKey .Values "podSecurityContext" | ternary (eq (toJson .Values.podSecurityContext) $default) true }}
{{- if and (or .Values.runtime (include "agent.hasToolImages" .)) $isDefault }}
{{- pick (fromJson $default) "runAsUser" "runAsGroup" | toJson }}
{{- else -}}
{}
{{- end }}
{{- end }}

{{- define "agent.securityContextOfPods" -}}
{{- if include "agent.userOfContainers" . | fromJson }}
{{- omit (include "agent.podSecurityDefault" . | fromJson) "runAsUser" "runAsGroup" | include "agent.verbatim" }}
{{- else }}
{{- include "agent.podSecurityContext" . }}
{{- end }}
{{- end }}

{{/* A security context with a user, where it has none of its own. Takes a dictionary: `context`, `user`. */}}
{{- define "agent.withUser" -}}
{{- $context := deepCopy (.context | default dict) }}
{{- range $key, $id := .user }}
{{- if or (not (hasKey $context $key)) (kindIs "invalid" (get $context $key)) }}
{{- $_ := set $context $key $id }}
{{- end }}
{{- end }}
{{- with $context }}
{{- include "agent.verbatim" . }}
{{- end }}
{{- end }}

{{/* A container other than the runtime, with a user in its security context. Takes a dictionary: `container`, `user`. */}}
{{- define "agent.asUser" -}}
{{- if .user }}
{{- $context := include "agent.withUser" (dict "context" .container.securityContext "user" .user) | fromYaml }}
{{- set (deepCopy .container) "securityContext" $context | include "agent.verbatim" }}
{{- else }}
{{- include "agent.verbatim" .container }}
{{- end }}
{{- end }}
