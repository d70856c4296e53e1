{{/* Name of the application, as the label app.kubernetes.io/name bears it. */}}
{{- define "agent.name" -}}
{{- .Values.nameOverride | default "portside-agent" }}
{{- end }}

{{/* Name of the agent, and of all its objects: the release's. */}}
{{- define "agent.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{/* Labels by which the agent's pods are found; they never change. */}}
{{- define "agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agent.name" . | quote }}
app.kubernetes.io/instance: {{ include "agent.fullname" . | quote }}
app.kubernetes.io/component: api
{{- end }}

{{/* Labels of the pods: no version and no manager, so that an upgrade or adoption does not replace them. */}}
{{- define "agent.podLabels" -}}
{{ include "agent.selectorLabels" . }}
app.kubernetes.io/part-of: portside
{{- end }}

{{/* Labels of every object. */}}
{{- define "agent.labels" -}}
{{ include "agent.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A mapping of texts. Not toYaml: that gives nothing at all where a text has a control character in it. */}}
{{- define "agent.texts" -}}
{{- range $key, $text := . }}
{{ $key | quote }}: {{ $text | quote }}
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
