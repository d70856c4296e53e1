{{/* Rules of providers in clouds. The sentences are those of operator/agent_operator/api/providers.py. */}}
{{- define "agent.validateProvider" -}}
{{- with .Values.agent }}
{{- if has .provider (list "bedrock" "vertex" "foundry") }}
{{- if not (get . .provider) }}
{{- fail (printf "provider %[1]s needs to know where it is: set agent.%[1]s" .provider) }}
{{- end }}
{{- if and (or (not $.Values.runtime) (hasKey . "fallbacks")) (not .credentials) }}
{{- fail "a provider in a cloud needs credentials: set agent.credentials.secretName to a Secret that contains them, or agent.credentials.workloadIdentity" }}
{{- end }}
{{- end }}
{{- if hasKey . "credentials" }}
{{- $credentials := .credentials | default dict }}
{{- if eq (empty $credentials.secretName) (not (hasKey $credentials "workloadIdentity")) }}
{{- fail "set agent.credentials.secretName or agent.credentials.workloadIdentity, and not both" }}
{{- end }}
{{- if and (hasKey $credentials "workloadIdentity") (ne .provider "echo") (not (hasKey ($credentials.workloadIdentity | default dict) .provider)) }}
{{- fail "agent.credentials.workloadIdentity needs to know who trusts the token: set the block of agent.provider in it" }}
{{- end }}
{{- end }}
{{- include "agent.validateBlocks" . }}
{{- if and (eq .provider "echo") (hasKey . "fallbacks") }}
{{- fail "provider echo always answers: remove agent.fallbacks" }}
{{- end }}
{{- $seen := list }}
{{- range .fallbacks }}
{{- if has . $seen }}
{{- fail "two entries of agent.fallbacks are the same: remove one of them" }}
{{- end }}
{{- $seen = append $seen . }}
{{- include "agent.validateFallback" (list $.Values .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agent.validateFallback" -}}
{{- $values := index . 0 }}
{{- $fallback := index . 1 }}
{{- range $name := list "bedrock" "vertex" "foundry" }}
{{- if ne (eq $fallback.provider $name) (hasKey $fallback $name) }}
{{- fail "a fallback has the block of its provider and of no other: set or remove bedrock, vertex or foundry in agent.fallbacks" }}
{{- end }}
{{- end }}
{{- include "agent.validateBlocks" $fallback }}
{{- $credentials := $values.agent.credentials | default dict }}
{{- $own := and (eq $fallback.provider $values.agent.provider) (or (hasKey $credentials "workloadIdentity") (and (ne $fallback.provider "anthropic") $credentials)) }}
{{- if eq $fallback.provider "anthropic" }}
{{- $own = or $own $values.apiKey.secretName $values.apiKey.value }}
{{- end }}
{{- if not (or $fallback.credentials $own) }}
{{- fail "a fallback needs credentials: set credentials.secretName in agent.fallbacks, or apiKey for the provider anthropic" }}
{{- end }}
{{- end }}

{{/* Rules of the blocks of an agent or a fallback. */}}
{{- define "agent.validateBlocks" -}}
{{- $holder := . }}
{{- range $name := list "bedrock" "vertex" "foundry" }}
{{- range $key := keys ((get $holder $name | default dict).modelIds | default dict) }}
{{- if or (gt (len $key) 317) (not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?$" $key)) }}
{{- fail (printf "%s: each key of modelIds must be the name of a model: letters, digits and '._:@/-'" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- if hasKey . "foundry" }}
{{- $foundry := .foundry | default dict }}
{{- if eq (empty $foundry.resource) (empty $foundry.baseUrl) }}
{{- fail "agent.foundry needs the resource or its address: set agent.foundry.resource or agent.foundry.baseUrl, and not both" }}
{{- end }}
{{- end }}
{{- end }}
