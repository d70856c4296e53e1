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

{{/* The workload identity for the provider, as JSON with its audience and its block; nothing without one. */}}
{{- define "agent.identity" -}}
{{- $provider := .Values.agent.provider }}
{{- $credentials := .Values.agent.credentials | default dict }}
{{- if and (hasKey $credentials "workloadIdentity") (has $provider (list "anthropic" "bedrock" "vertex" "foundry")) }}
{{- $identity := $credentials.workloadIdentity | default dict }}
{{- $block := get $identity $provider | default dict }}
{{- $pod := and (eq $provider "bedrock") (not $block.roleArn) }}
{{- $audiences := dict "anthropic" "https://api.anthropic.com" "bedrock" "sts.amazonaws.com" "foundry" "api://AzureADTokenExchange" }}
{{- $audience := get $audiences $provider | default (printf "https://iam.googleapis.com/%s" ($block.provider | default "")) }}
{{- if $pod }}
{{- $audience = "pods.eks.amazonaws.com" }}
{{- end }}
{{- dict "audience" ($identity.audience | default $audience) "seconds" ($identity.tokenLifetimeSeconds | default 3600) "url" ($identity.tokenUrl | default "") "pod" $pod "block" $block | toJson }}
{{- end }}
{{- end }}

{{/* The settings of the exchange of its token. */}}
{{- define "agent.identitySettings" -}}
{{- with include "agent.identity" . }}
{{- $identity := fromJson . }}
IDENTITY_TOKEN_FILE: /etc/portside/secrets/identity-token
{{- if $identity.pod }}
AWS_CONTAINER_CREDENTIALS_FULL_URI: {{ $identity.url | default "http://169.254.170.23/v1/credentials" | quote }}
{{- else }}
{{- with $identity.url }}
IDENTITY_TOKEN_URL: {{ . | quote }}
{{- end }}
{{- $names := dict
  "anthropic" (dict "ANTHROPIC_FEDERATION_RULE_ID" "federationRuleId" "ANTHROPIC_ORGANIZATION_ID" "organizationId" "ANTHROPIC_SERVICE_ACCOUNT_ID" "serviceAccountId" "ANTHROPIC_WORKSPACE_ID" "workspaceId")
  "bedrock" (dict "AWS_ROLE_ARN" "roleArn")
  "vertex" (dict "GOOGLE_IDENTITY_PROVIDER" "provider" "GOOGLE_SERVICE_ACCOUNT" "serviceAccount")
  "foundry" (dict "AZURE_TENANT_ID" "tenantId" "AZURE_CLIENT_ID" "clientId")
}}
{{- range $name, $field := get $names $.Values.agent.provider }}
{{- with get $identity.block $field }}
{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Port of the service that exchanges the token; nothing if that is at the model API, or on the node. */}}
{{- define "agent.identityPort" -}}
{{- with include "agent.identity" . }}
{{- $identity := fromJson . }}
{{- if $identity.url }}
{{- include "agent.httpPort" $identity.url }}
{{- else if not (or $identity.pod (eq $.Values.agent.provider "anthropic")) -}}
443
{{- end }}
{{- end }}
{{- end }}

{{/* The rule for the EKS Pod Identity Agent on the node, if it exchanges the token. */}}
{{- define "agent.identityEgress" -}}
{{- with include "agent.identity" . }}
{{- $identity := fromJson . }}
{{- if and $identity.pod (not $identity.url) }}
- ports: [{port: 80, protocol: TCP}]
  to: [{ipBlock: {cidr: 169.254.170.23/32}}]
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
{{- with include "agent.identity" . }}
{{- $identity := fromJson . }}
- serviceAccountToken: {audience: {{ $identity.audience | quote }}, expirationSeconds: {{ $identity.seconds | toJson }}, path: identity-token}
{{- end }}
{{- $agent := .Values.agent }}
{{- $credentials := $agent.credentials | default dict }}
{{- if and (has $agent.provider (list "bedrock" "vertex" "foundry")) $credentials.secretName }}
{{- include "agent.providerSources" (dict "provider" $agent.provider "secret" $credentials.secretName "folder" "") }}
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
