{{/* Name of the ConfigMap with the classes. */}}
{{- define "agent-operator.classesName" -}}
{{- printf "%s-classes" (include "agent-operator.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{/* Name of the admission policy of classes. */}}
{{- define "agent-operator.classPolicyName" -}}
{{- printf "%s-classes" (include "agent-operator.clusterName" . | trunc 245 | trimSuffix "-") }}
{{- end }}

{{/* The classes as a list of AgentClass objects. */}}
{{- define "agent-operator.classesText" -}}
{{- $items := list }}
{{- range (.Values.classes | default dict).objects }}
{{- $items = append $items (merge (dict "apiVersion" "portside.dev/v1alpha1" "kind" "AgentClass") .) }}
{{- end }}
{{- dict "apiVersion" "v1" "kind" "List" "items" $items | toYaml }}
{{- end }}
