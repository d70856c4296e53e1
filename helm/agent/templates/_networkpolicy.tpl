{{/* Port of an address, if it has one, without leading zeros, which would make it an octal number. */}}
{{- define "agent.port" -}}
{{- regexReplaceAll "(?s)^[a-z]+://[^/?#]*?(?::0*([1-9][0-9]*)?)?(?:[/?#].*)?$" . "${1}" }}
{{- end }}

{{/* Port of an HTTP address. */}}
{{- define "agent.httpPort" -}}
{{- include "agent.port" . | default (hasPrefix "http://" . | ternary "80" "443") }}
{{- end }}

{{/* Port of the model API; empty for a provider that calls none. */}}
{{- define "agent.modelPort" -}}
{{- with .Values.agent }}
{{- if ne .provider "echo" }}
{{- $place := eq .provider "anthropic" | ternary . (get . .provider | default dict) }}
{{- include "agent.httpPort" ($place.baseUrl | default "https://") }}
{{- end }}
{{- end }}
{{- end }}

{{/* Port of the trace collector; empty without one. */}}
{{- define "agent.collectorPort" -}}
{{- with .Values.monitoring.tracing }}
{{- include "agent.httpPort" .endpoint }}
{{- end }}
{{- end }}

{{/* Port of Redis; empty without one. */}}
{{- define "agent.redisPort" -}}
{{- if include "agent.hasRedis" . }}
{{- .Values.networkPolicy.redisPort | default (include "agent.port" (.Values.redis.url | default "redis://")) | default "6379" }}
{{- end }}
{{- end }}
