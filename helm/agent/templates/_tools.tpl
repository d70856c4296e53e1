{{/*
The tools: the file that the agent API reads, the servers beside it (native sidecars, as a runtime is), and the Secrets for
all servers. A field that is unset has its default here: Helm does not apply defaults inside a list.
*/}}

{{/* The file by its name: the data of its ConfigMap; nothing without tools. */}}
{{- define "agent.toolsFile" -}}
{{- if .Values.tools }}
{{- $tools := list }}
{{- range .Values.tools }}
{{- $tool := deepCopy . }}
{{- with .code }}
{{- $_ := set $tool "code" (dict "configMapKeyRef" .configMapKeyRef "port" (.port | default 8090)) }}
{{- end }}
{{- with (.mcp | default dict).sidecar }}
{{- $_ := set $tool.mcp "sidecar" (dict "port" (.port | default 8090) "path" (.path | default "/mcp")) }}
{{- end }}
{{- $tools = append $tools $tool }}
{{- end }}
tools.json: {{ dict "tools" $tools | toRawJson | quote }}
{{- end }}
{{- end }}

{{- define "agent.toolsName" -}}
{{- include "agent.fullname" . }}-tools
{{- end }}

{{/* The settings by which the agent API finds them, and their bounds; nothing without tools. */}}
{{- define "agent.toolSettings" -}}
{{- if .Values.tools }}
TOOLS_FILE: /etc/portside/tools/tools.json
{{- with .Values.agent.maxSteps }}
MAX_STEPS: {{ . | toJson | quote }}
{{- end }}
{{- with .Values.agent.maxToolCalls }}
MAX_TOOL_CALLS: {{ . | toJson | quote }}
{{- end }}
{{- with .Values.approvals }}
{{- with .approvers }}
APPROVERS: {{ join "," . | quote }}
{{- end }}
{{- with .ttlSeconds }}
APPROVAL_TTL_SECONDS: {{ . | toJson | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Sources of the folder of Secrets (ProjectedVolumeSource), each key once; nothing without any. */}}
{{- define "agent.toolSecretSources" -}}
{{- $keys := list }}
{{- range .Values.tools }}
{{- $mcp := .mcp | default dict }}
{{- range $mcp.headersFrom }}
{{- $keys = append $keys .secretKeyRef }}
{{- end }}
{{- with ($mcp.auth | default dict).clientCredentials }}
{{- $keys = concat $keys (list .clientIdSecretKeyRef .clientSecretKeyRef) }}
{{- end }}
{{- end }}
{{- $sources := list }}
{{- range compact $keys }}
{{- $item := dict "key" .key "path" (printf "%s/%s" .name .key) }}
{{- $sources = append $sources (dict "secret" (dict "name" .name "items" (list $item))) }}
{{- end }}
{{- range uniq $sources }}
- {{ include "agent.verbatim" . }}
{{- end }}
{{- end }}

{{/* Mounts of the agent's own container. The file does not change in a running pod. */}}
{{- define "agent.toolMounts" -}}
{{- if .Values.tools }}
- name: tools
  mountPath: /etc/portside/tools/tools.json
  subPath: tools.json
  readOnly: true
{{- if include "agent.toolSecretSources" . }}
- name: tool-secrets
  mountPath: /var/run/portside/tool-secrets
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "agent.toolVolumes" -}}
{{- if .Values.tools }}
- name: tools
  configMap:
    name: {{ include "agent.toolsName" . | quote }}
{{- with include "agent.toolSecretSources" . }}
- name: tool-secrets
  projected:
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- range .Values.tools }}
{{- if or .code (.mcp | default dict).sidecar }}
- name: {{ printf "tool-%s-tmp" .name | quote }}
  emptyDir: {}
{{- end }}
{{- if .code }}
- name: {{ printf "tool-%s-code" .name | quote }}
  configMap:
    name: {{ .code.configMapKeyRef.name | quote }}
    items: [{key: {{ .code.configMapKeyRef.key | quote }}, path: {{ .code.configMapKeyRef.key | quote }}}]
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The containers of the servers beside the agent. */}}
{{- define "agent.toolContainers" -}}
{{- $root := . }}
{{- range .Values.tools }}
{{- if .code }}
{{- $program := dict "image" (include "agent.image" $root) "imagePullPolicy" $root.Values.image.pullPolicy }}
{{- $file := printf "/etc/portside/tools/%s" .code.configMapKeyRef.key }}
{{- $_ := set $program "args" (list "tools" "--host" "::" "--loopback-only" $file) }}
{{- $mount := dict "name" (printf "tool-%s-code" .name) "mountPath" "/etc/portside/tools" "readOnly" true }}
{{- include "agent.toolContainer" (dict "name" .name "program" $program "server" (pick .code "port") "mounts" (list $mount)) }}
{{- else if (.mcp | default dict).sidecar }}
{{- $sidecar := .mcp.sidecar }}
{{- $program := pick $sidecar "image" "imagePullPolicy" "command" "args" "workingDir" "envFrom" }}
{{- include "agent.toolContainer" (dict "name" .name "program" $program "server" $sidecar "mounts" ($sidecar.volumeMounts | default list)) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The container of one server. Takes a dictionary: `name`, `program` (fields of the container that are handed on),
`server` (the port and what else is set), `mounts`. The probes connect only: an MCP endpoint has no path that answers every
GET. There is no readiness probe: onUnavailable decides about turns while the server is down.
*/}}
{{- define "agent.toolContainer" -}}
{{- $port := .server.port | default 8090 }}
- name: {{ printf "tool-%s" .name | quote }}
  {{- range $field, $value := .program }}
  {{- if $value }}
  {{ $field }}: {{ include "agent.verbatim" $value }}
  {{- end }}
  {{- end }}
  restartPolicy: Always
  env:
    {{- $given := list }}
    {{- range .server.env }}
    {{- $given = append $given .name }}
    {{- end }}
    {{- if not (has "PORT" $given) }}
    - name: PORT
      value: {{ $port | toJson | quote }}
    {{- end }}
    {{- range .server.env }}
    - {{ include "agent.verbatim" . }}
    {{- end }}
  volumeMounts:
    - name: {{ printf "tool-%s-tmp" .name | quote }}
      mountPath: /tmp
    {{- range .mounts }}
    - {{ include "agent.verbatim" . }}
    {{- end }}
  {{- $resources := dict "requests" (dict "cpu" "10m" "memory" "128Mi") "limits" (dict "memory" "512Mi") }}
  {{- with include "agent.amounts" (hasKey .server "resources" | ternary .server.resources $resources) }}
  resources:
    {{- . | nindent 4 }}
  {{- end }}
  startupProbe:
    tcpSocket: {port: {{ $port }}}
    periodSeconds: 1
    failureThreshold: {{ .server.startupSeconds | default 120 }}
    timeoutSeconds: 1
  livenessProbe:
    tcpSocket: {port: {{ $port }}}
    periodSeconds: 10
    failureThreshold: 6
    timeoutSeconds: 5
  terminationMessagePolicy: FallbackToLogsOnError
  {{- with hasKey .server "securityContext" | ternary .server.securityContext (include "agent.hardened" . | fromJson) }}
  securityContext: {{ include "agent.verbatim" . }}
  {{- end }}
{{- end }}

{{/* Whether a server beside the agent has an image of the user's: a word or nothing. */}}
{{- define "agent.hasToolImages" -}}
{{- range .Values.tools }}
{{- if (.mcp | default dict).sidecar }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Addresses of servers, token endpoints and issuers of clients' tokens, as JSON. */}}
{{- define "agent.toolAddresses" -}}
{{- $addresses := list }}
{{- range .Values.tools }}
{{- $mcp := .mcp | default dict }}
{{- $addresses = concat $addresses (list $mcp.url (($mcp.auth | default dict).clientCredentials | default dict).tokenUrl) }}
{{- end }}
{{- range (.Values.auth.jwt | default dict).issuers }}
{{- $addresses = append $addresses (.jwksUrl | default .issuer) }}
{{- end }}
{{- compact $addresses | toJson }}
{{- end }}

{{/* Namespace in the address of a Service in the cluster; nothing for any other address. */}}
{{- define "agent.namespaceOfAddress" -}}
{{- $label := "([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)" }}
{{- $form := printf "(?i)^(?:http://[-a-z0-9]+\\.%[1]s|https?://[-a-z0-9]+\\.%[1]s\\.svc(?:\\.[-a-z0-9.]*)?)\\.?(?::[0-9]*)?(?:/.*)?$" $label }}
{{- if regexMatch $form . }}
{{- regexReplaceAll $form . "${1}${2}" | lower }}
{{- end }}
{{- end }}

{{/* Ports of the tools' addresses outside the cluster, as JSON: a list of texts. */}}
{{- define "agent.toolPorts" -}}
{{- $ports := list }}
{{- range include "agent.toolAddresses" . | fromJsonArray }}
{{- if not (include "agent.namespaceOfAddress" .) }}
{{- $ports = append $ports (include "agent.httpPort" .) }}
{{- end }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{/* Egress rules for the namespaces of the tools' addresses in the cluster. */}}
{{- define "agent.toolEgress" -}}
{{- $rules := list }}
{{- range include "agent.toolAddresses" . | fromJsonArray }}
{{- $namespace := include "agent.namespaceOfAddress" . }}
{{- if $namespace }}
{{- $rules = append $rules (dict "namespace" $namespace "port" (include "agent.httpPort" .)) }}
{{- end }}
{{- end }}
{{- range uniq $rules }}
- ports:
    - port: {{ .port }}
      protocol: TCP
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace | quote }}
{{- end }}
{{- end }}
