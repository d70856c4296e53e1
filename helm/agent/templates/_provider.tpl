{{/* The settings of the provider in a cloud; nothing for any other. */}}
{{- define "agent.providerSettings" -}}
{{- $agent := .Values.agent }}
{{- with and (has $agent.provider (list "bedrock" "vertex" "foundry")) (get $agent $agent.provider) }}
{{- $block := . }}
{{- range $name, $field := dict "REGION" "region" "PROJECT" "project" "RESOURCE" "resource" "API" "api" "BASE_URL" "baseUrl" }}
{{- with get $block $field }}
{{ upper $agent.provider }}_{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .modelIds }}
MODEL_IDS: {{ toJson . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The providers that are asked when the agent's own does not answer; nothing without any. */}}
{{- define "agent.fallbackSettings" -}}
{{- with .Values.agent.fallbacks }}
{{- $prices := ($.Values.budget | default dict).prices | default dict }}
{{- $entries := list }}
{{- range $index, $fallback := . }}
{{- $entry := omit $fallback "credentials" }}
{{- if $fallback.credentials }}
{{- $entry = merge (dict "secretsDir" (printf "fallback-%d" (add1 $index))) $entry }}
{{- end }}
{{- with get $prices ($fallback.model | default $.Values.agent.model) }}
{{- $entry = merge (dict "prices" .) $entry }}
{{- end }}
{{- $entries = append $entries $entry }}
{{- end }}
MODEL_FALLBACKS: {{ $entries | toRawJson | quote }}
{{- end }}
{{- end }}

{{/* The part of the pods' folder of secrets that is credentials for providers. */}}
{{- define "agent.cloudSources" -}}
{{- $agent := .Values.agent }}
{{- with and (has $agent.provider (list "bedrock" "vertex" "foundry")) $agent.credentials }}
{{- include "agent.providerSources" (dict "provider" $agent.provider "secret" .secretName "folder" "") }}
{{- end }}
{{- range $index, $fallback := $agent.fallbacks }}
{{- with $fallback.credentials }}
{{- include "agent.providerSources" (dict "provider" $fallback.provider "secret" .secretName "folder" (printf "fallback-%d/" (add1 $index))) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agent.providerSources" }}
{{- $needed := dict "anthropic" (list "ANTHROPIC_API_KEY") "bedrock" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") "vertex" (list "GOOGLE_SERVICE_ACCOUNT_KEY") "foundry" (list "ANTHROPIC_FOUNDRY_API_KEY") }}
- secret:
    name: {{ .secret | quote }}
    items:
    {{- range get $needed .provider }}
    - {key: {{ . }}, path: {{ $.folder }}{{ . }}}
    {{- end }}
{{- if eq .provider "bedrock" }}
- secret: {name: {{ .secret | quote }}, items: [{key: AWS_SESSION_TOKEN, path: {{ .folder }}AWS_SESSION_TOKEN}], optional: true}
{{- end }}
{{- end }}
