{{/* Port of an address, if it has one, without leading zeros, which would make it an octal number. */}}
{{- define "agent.port" -}}
{{- regexReplaceAll "(?s)^[a-z]+://[^/?#]*?(?::0*([1-9][0-9]*)?)?(?:[/?#].*)?$" . "${1}" }}
{{- end }}

{{/* Port of an HTTP address. */}}
{{- define "agent.httpPort" -}}
{{- include "agent.port" . | default (hasPrefix "http://" . | ternary "80" "443") }}
{{- end }}

{{/* Ports of the model API, separated by commas; empty for a provider that calls none. */}}
{{- define "agent.modelPorts" -}}
{{- $agent := .Values.agent }}
{{- $ports := list }}
{{- if ne $agent.provider "echo" }}
{{- range prepend ($agent.fallbacks | default list) $agent }}
{{- $place := eq .provider "anthropic" | ternary $agent (get . .provider | default dict) }}
{{- $ports = append $ports (include "agent.httpPort" ($place.baseUrl | default "https://")) }}
{{- end }}
{{- end }}
{{- join "," $ports }}
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
