{{/* Name of the ConfigMap with the policy. */}}
{{- define "agent-operator.policyName" -}}
{{- printf "%s-policy" (include "agent-operator.fullname" . | trunc 56 | trimSuffix "-") }}
{{- end }}

{{/* A setting of the policy as text; a list is one with commas. */}}
{{- define "agent-operator.policyText" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* The policy as a ConfigMap has it. */}}
{{- define "agent-operator.policyData" -}}
{{- range $name, $value := .Values.policies.allow }}
{{ $name }}: {{ include "agent-operator.policyText" $value | quote }}
{{- end }}
{{- end }}

{{/* The same as a map of CEL; the schema lets no text in that would end one there. */}}
{{- define "agent-operator.policyLiteral" -}}
{{- $entries := list }}
{{- range $name, $value := .Values.policies.allow }}
{{- $entries = append $entries (printf "'%s': '%s'" $name (include "agent-operator.policyText" $value)) }}
{{- end }}
{{- printf "{%s}" (join ", " $entries) }}
{{- end }}

{{/*
A label selector, as `--selector` takes it, as matchExpressions (Kubernetes: "Labels and Selectors", set-based and
equality-based requirements).
*/}}
{{- define "agent-operator.matchExpressions" -}}
{{- range $one := regexFindAll "[^,()]+(\\([^()]*\\))?" . -1 }}
{{- $one = trim $one }}
{{- $set := regexFind "\\s(in|notin)\\s*\\(.*\\)$" $one }}
{{- if $set }}
- key: {{ regexFind "^[^ ]+" $one | quote }}
  operator: {{ ternary "NotIn" "In" (hasPrefix "notin" (trim $set)) }}
  values:
    {{- range regexFindAll "[^,() ]+" (regexFind "\\(.*\\)$" $one) -1 }}
    - {{ quote . }}
    {{- end }}
{{- else if contains "=" $one }}
- key: {{ regexFind "^[^!= ]+" $one | quote }}
  operator: {{ ternary "NotIn" "In" (contains "!=" $one) }}
  values: [{{ regexFind "[^= ]*$" $one | quote }}]
{{- else }}
- key: {{ trimPrefix "!" $one | trim | quote }}
  operator: {{ ternary "DoesNotExist" "Exists" (hasPrefix "!" $one) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a binding of a policy matches: everything, or only what this operator serves. */}}
{{- define "agent-operator.servedOnly" -}}
{{- if or .Values.watchNamespaces .Values.selector }}
# Only what this operator serves.
matchResources:
  {{- with .Values.watchNamespaces }}
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values:
          {{- toYaml . | nindent 10 }}
  {{- end }}
  {{- with .Values.selector }}
  objectSelector:
    matchExpressions:
      {{- include "agent-operator.matchExpressions" . | trim | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}
