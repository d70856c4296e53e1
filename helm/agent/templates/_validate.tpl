{{/*
Rules across values, which a JSON Schema cannot say in words. The sentences are those of the operator's models
(operator/agent_operator/api): tests/cluster/test_chart_rules.py holds the two together.
*/}}
{{- define "agent.validate" -}}
{{- include "agent.validateDefaults" . }}
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
{{- $resources := .Values.resources | default dict }}
{{- range list .Values.nodeSelector .Values.podAnnotations .Values.podLabels .Values.service.annotations $resources.requests $resources.limits }}
{{- include "agent.validateKeys" . }}
{{- end }}
{{- range $key := keys (.Values.podLabels | default dict) }}
{{- if hasPrefix "app.kubernetes.io/" $key }}
{{- fail "labels under app.kubernetes.io/ are set by Portside: choose another prefix" }}
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
  "autoscaling" (list "enabled" "minReplicas" "maxReplicas")
  "image" (list "repository" "pullPolicy")
  "logging" (list "level" "format")
  "replicas" list
  "rollout" (list "maxSurge" "maxUnavailable")
  "service" (list "type" "port")
}}
{{- range $section, $fields := $sections }}
{{- if not (hasKey $.Values $section) }}
{{- include "agent.failNull" $section }}
{{- end }}
{{- range $field := $fields }}
{{- if not (hasKey (get $.Values $section) $field) }}
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
