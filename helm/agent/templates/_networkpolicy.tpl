{{/* Port of an address, if it names one, without the zeros in front, which would make an octal number of it. */}}
{{- define "agent.port" -}}
{{- regexReplaceAll "(?s)^[a-z]+://[^/?#]*?(?::0*([1-9][0-9]*)?)?(?:[/?#].*)?$" . "${1}" }}
{{- end }}

{{/* Port of an address of HTTP. */}}
{{- define "agent.httpPort" -}}
{{- include "agent.port" . | default (hasPrefix "http://" . | ternary "80" "443") }}
{{- end }}

{{/* Port of the model API; nothing for a provider that asks nobody. */}}
{{- define "agent.modelPort" -}}
{{- with .Values.agent }}
{{- if ne .provider "echo" }}
{{- include "agent.httpPort" (.baseUrl | default "https://") }}
{{- end }}
{{- end }}
{{- end }}

{{/* Port of the collector of traces; nothing when there is none. */}}
{{- define "agent.collectorPort" -}}
{{- with .Values.monitoring.tracing }}
{{- include "agent.httpPort" .endpoint }}
{{- end }}
{{- end }}

{{/* Port of Redis; nothing when there is none. */}}
{{- define "agent.redisPort" -}}
{{- if include "agent.hasRedis" . }}
{{- .Values.networkPolicy.redisPort | default (include "agent.port" (.Values.redis.url | default "redis://")) | default "6379" }}
{{- end }}
{{- end }}
