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

{{/* The part of the pods' folder of secrets that is credentials for a provider in a cloud. */}}
{{- define "agent.cloudSources" -}}
{{- $needed := dict "bedrock" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") "vertex" (list "GOOGLE_SERVICE_ACCOUNT_KEY") "foundry" (list "ANTHROPIC_FOUNDRY_API_KEY") }}
{{- $agent := .Values.agent }}
{{- with and (hasKey $needed $agent.provider) $agent.credentials }}
- secret:
    name: {{ .secretName | quote }}
    items:
    {{- range get $needed $agent.provider }}
    - {key: {{ . }}, path: {{ . }}}
    {{- end }}
{{- if eq $agent.provider "bedrock" }}
- secret: {name: {{ .secretName | quote }}, items: [{key: AWS_SESSION_TOKEN, path: AWS_SESSION_TOKEN}], optional: true}
{{- end }}
{{- end }}
{{- end }}
