{{/* Name of the application, as the label app.kubernetes.io/name bears it. */}}
{{- define "agent-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the operator's objects: the release's. */}}
{{- define "agent-operator.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of what belongs to the whole cluster: two releases in two namespaces must not share it. */}}
{{- define "agent-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agent-operator.fullname" .) }}
{{- end }}

{{/* Name of the ServiceAccount that the operator runs as. */}}
{{- define "agent-operator.serviceAccountName" -}}
{{- dig "name" "" (.Values.serviceAccount | default dict) | default (include "agent-operator.fullname" .) }}
{{- end }}

{{/* Labels by which the operator's pod is found; they never change. */}}
{{- define "agent-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agent-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of every object. */}}
{{- define "agent-operator.labels" -}}
{{ include "agent-operator.selectorLabels" . }}
app.kubernetes.io/part-of: portside
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image; a digest wins over a tag. */}}
{{- define "agent-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}
