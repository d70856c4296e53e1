{{/* Name of the application, as the label app.kubernetes.io/name bears it. */}}
{{- define "agent.name" -}}
{{- .Values.nameOverride | default "portside-agent" }}
{{- end }}

{{/* Name of the agent, and of all its objects: the release's, and behind it the alias under which an umbrella chart has it,
so that two aliases are two agents. */}}
{{- define "agent.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if or (eq .Chart.Name "agent") (contains .Chart.Name .Release.Name) }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name }}
{{- end }}
{{- end }}

{{/* Name of what the workers have of their own. */}}
{{- define "agent.workerName" -}}
{{- include "agent.fullname" . }}-worker
{{- end }}

{{/* Name of the ConfigMap with the issuers of tokens. */}}
{{- define "agent.jwtName" -}}
{{- include "agent.fullname" . }}-jwt
{{- end }}

{{/* Name of the Secret of client keys that are made here. */}}
{{- define "agent.clientKeysName" -}}
{{- include "agent.fullname" . }}-client-keys
{{- end }}

{{/* Name of what `helm test` makes, and the labels by which its pod is found. */}}
{{- define "agent.testName" -}}
{{- include "agent.fullname" . }}-test
{{- end }}

{{- define "agent.testLabels" -}}
app.kubernetes.io/name: portside-agent-test
app.kubernetes.io/instance: {{ include "agent.fullname" . | quote }}
{{- end }}

{{/* Labels by which all that is the agent's is found. */}}
{{- define "agent.agentSelector" -}}
app.kubernetes.io/name: {{ include "agent.name" . | quote }}
app.kubernetes.io/instance: {{ include "agent.fullname" . | quote }}
{{- end }}

{{/* Labels by which the pods of the API are found, and those of the workers; they never change. */}}
{{- define "agent.selectorLabels" -}}
{{ include "agent.agentSelector" . }}
app.kubernetes.io/component: api
{{- end }}

{{- define "agent.workerSelectorLabels" -}}
{{ include "agent.agentSelector" . }}
app.kubernetes.io/component: worker
{{- end }}

{{/* Labels of objects besides those by which they are found. Pods have no version and no manager, so that an upgrade or
adoption does not replace them. */}}
{{- define "agent.commonLabels" -}}
app.kubernetes.io/part-of: portside
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "agent.labels" -}}
{{ include "agent.selectorLabels" . }}
{{ include "agent.commonLabels" . }}
{{- end }}

{{- define "agent.workerLabels" -}}
{{ include "agent.workerSelectorLabels" . }}
{{ include "agent.commonLabels" . }}
{{- end }}

{{/* A mapping of texts. Not toYaml: that gives nothing at all where a text has a control character in it. */}}
{{- define "agent.texts" -}}
{{- range $key, $text := . }}
{{ $key | quote }}: {{ $text | quote }}
{{- end }}
{{- end }}

{{/*
Anything that is handed on as it is, as YAML in flow style. Not toYaml or toJson: the first turns 1000000 into 1e+06, and
neither escapes what YAML would not take in a text.
*/}}
{{- define "agent.verbatim" -}}
{{- if kindIs "map" . -}}
{ {{- range $key, $value := . }}{{ $key | quote }}: {{ include "agent.verbatim" $value }}, {{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range . }}{{ include "agent.verbatim" . }}, {{ end -}} ]
{{- else if kindIs "string" . -}}
{{ quote . }}
{{- else -}}
{{ toJson . }}
{{- end }}
{{- end }}

{{/* The image; a digest wins over a tag. */}}
{{- define "agent.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}
