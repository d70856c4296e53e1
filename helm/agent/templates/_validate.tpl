{{/*
Rules across values, which a JSON Schema cannot say in words. The sentences are those of the operator's models
(operator/agent_operator/api): tests/cluster/test_parity.py holds the two together.
*/}}
{{- define "agent.validate" -}}
{{- $name := include "agent.fullname" . }}
{{- if or (gt (len $name) 53) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) }}
{{- fail "metadata.name must be at most 53 lower-case letters, digits and '-', begin with a letter and end with a letter or digit, because it becomes the name of the Service: choose another name" }}
{{- end }}
{{- with .Values.apiKey }}
{{- if and .value .secretName }}
{{- fail "set apiKey.secretName or apiKey.value, not both: remove one of them" }}
{{- end }}
{{- if and (eq $.Values.agent.provider "anthropic") (not .value) (not .secretName) }}
{{- fail "provider anthropic needs a key: set apiKey.secretName to a Secret that holds it (or apiKey.value to try things out), or set agent.provider to echo" }}
{{- end }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other" }}
{{- end }}
{{- $none := list "0" "0%" }}
{{- with .Values.rollout }}
{{- if and (has (toString .maxSurge) $none) (has (toString .maxUnavailable) $none) }}
{{- fail "rollout.maxSurge and rollout.maxUnavailable cannot both be 0, as no pod could be replaced: raise one" }}
{{- end }}
{{- end }}
{{- end }}
