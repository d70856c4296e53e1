{{/* The agent API's settings, under the names of its environment variables: the data of the ConfigMap. */}}
{{- define "agent.settings" -}}
{{- with .Values.agent -}}
MODEL_PROVIDER: {{ .provider | quote }}
DEFAULT_MODEL: {{ .model | quote }}
MAX_TOKENS: {{ .maxTokens | toJson | quote }}
REQUEST_TIMEOUT_SECONDS: {{ .requestTimeoutSeconds | toJson | quote }}
ENVIRONMENT: {{ .environment | quote }}
{{- with .systemPrompt }}
SYSTEM_PROMPT: {{ . | quote }}
{{- end }}
{{- with .baseUrl }}
ANTHROPIC_BASE_URL: {{ . | quote }}
{{- end }}
{{- end }}
LOG_LEVEL: {{ .Values.logging.level | quote }}
LOG_FORMAT: {{ .Values.logging.format | quote }}
{{- end }}

{{/* The secrets that the values themselves hold, by their file names. */}}
{{- define "agent.secrets" -}}
{{- with .Values.apiKey.value -}}
ANTHROPIC_API_KEY: {{ . | quote }}
{{- end }}
{{- end }}

{{/* A mapping as sorted lines KEY=VALUE. */}}
{{- define "agent.lines" -}}
{{- range $key, $value := . }}{{ printf "%s=%s\n" $key $value }}{{ end }}
{{- end }}

{{/* Changes when the settings or the secrets do: on the pod template, it replaces the pods, which read them at start. */}}
{{- define "agent.configChecksum" -}}
{{- $settings := include "agent.settings" . | fromYaml }}
{{- $secrets := include "agent.secrets" . | fromYaml }}
{{- printf "%s%s" (include "agent.lines" $settings) (include "agent.lines" $secrets) | sha256sum }}
{{- end }}

{{/* The volume's source for the API key as a file: our own Secret or the user's; nothing when there is no key. */}}
{{- define "agent.secretSource" -}}
{{- with .Values.apiKey }}
{{- if .value -}}
secretName: {{ include "agent.fullname" $ | quote }}
items: [{key: ANTHROPIC_API_KEY, path: ANTHROPIC_API_KEY}]
{{- else if .secretName -}}
secretName: {{ .secretName | quote }}
items: [{key: {{ .secretKey | quote }}, path: ANTHROPIC_API_KEY}]
{{- end }}
{{- end }}
{{- end }}

{{/* Compute resources: the default gives way as a whole. Amounts are text, the form in which the API server keeps them. */}}
{{- define "agent.resources" -}}
{{- $resources := dict "requests" (dict "cpu" "100m" "memory" "256Mi") "limits" (dict "memory" "512Mi") }}
{{- if hasKey .Values "resources" }}
{{- $resources = .Values.resources }}
{{- end }}
{{- $given := dict }}
{{- range $kind, $amounts := $resources }}
{{- range $name, $amount := $amounts }}
{{- $text := kindIs "string" $amount | ternary $amount (toJson $amount) }}
{{- $_ := set $given $kind (set (get $given $kind | default dict) $name $text) }}
{{- end }}
{{- end }}
{{- with $given }}
{{- toYaml . }}
{{- end }}
{{- end }}
