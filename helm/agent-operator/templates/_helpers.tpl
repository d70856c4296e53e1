{{/* Name of the application, as the label app.kubernetes.io/name bears it. */}}
{{- define "agent-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the operator's objects: the release's. */}}
{{- define "agent-operator.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of what belongs to the whole cluster: two releases in two namespaces must not share it. */}}
{{- define "agent-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agent-operator.fullname" .) }}
{{- end }}

{{/* Name of the ServiceAccount that the operator runs as. */}}
{{- define "agent-operator.serviceAccountName" -}}
{{- dig "name" "" (.Values.serviceAccount | default dict) | default (include "agent-operator.fullname" .) }}
{{- end }}

{{/* Labels by which the operator's pod is found; they never change. */}}
{{- define "agent-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "agent-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/* What the API server would refuse in the middle of an upgrade: selectors never change (apps/v1, DeploymentSpec). */}}
{{- define "agent-operator.validateSelectors" -}}
{{- $there := lookup "apps/v1" "Deployment" .Release.Namespace (include "agent-operator.fullname" .) }}
{{- with ((($there.spec | default dict).selector | default dict).matchLabels | default dict) }}
{{- $name := index . "app.kubernetes.io/name" | default "" }}
{{- if ne $name (include "agent-operator.name" $) }}
{{- fail (printf "nameOverride cannot change while the Deployment %s is there, whose pods are found by the name %q: set it back, or uninstall the release first (the definition and all agents stay)" (include "agent-operator.fullname" $) $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
A definition older than the one that is there would take fields away from agents: the API server drops what it does not
know (Kubernetes, field pruning). So it is refused. `helm rollback` does not come by here: it applies what it kept.
*/}}
{{- define "agent-operator.validateDefinition" -}}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "agentdeployments.portside.dev" }}
{{- with index ((($there.metadata | default dict).labels) | default dict) "app.kubernetes.io/version" }}
{{- if eq 1 ((semver .).Compare (semver $.Chart.AppVersion)) }}
{{- fail (printf "the definition of AgentDeployment in this cluster is of version %s, and this chart's is of %s: agents could lose fields that they use. Set crds.install=false to leave the newer definition as it is; an agent that uses what is new in it then says so in its conditions, and serves on unchanged" . $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "agent-operator.labels" -}}
{{ include "agent-operator.selectorLabels" . }}
app.kubernetes.io/part-of: portside
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image; a digest wins over a tag. */}}
{{- define "agent-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* What the operator may do, everywhere that it serves: docs/reference/operator-rbac.md says what each is for. */}}
{{- define "agent-operator.rules" -}}
- apiGroups: [portside.dev]
  resources: [agentdeployments]
  verbs: [get, list, watch]
- apiGroups: [portside.dev]
  resources: [agentdeployments/status]
  verbs: [patch]
- apiGroups: [portside.dev]
  resources: [agentdeployments/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}

{{/* Name of the ConfigMap with the policy. */}}
{{- define "agent-operator.policyName" -}}
{{- printf "%s-policy" (include "agent-operator.fullname" . | trunc 56 | trimSuffix "-") }}
{{- end }}

{{/* A setting of the policy as text; a list is one with commas. */}}
{{- define "agent-operator.policyText" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* The policy as a ConfigMap has it. */}}
{{- define "agent-operator.policyData" -}}
{{- range $name, $value := .Values.policies.allow }}
{{ $name }}: {{ include "agent-operator.policyText" $value | quote }}
{{- end }}
{{- end }}

{{/* The same as a map of CEL; the schema lets no text in that would end one there. */}}
{{- define "agent-operator.policyLiteral" -}}
{{- $entries := list }}
{{- range $name, $value := .Values.policies.allow }}
{{- $entries = append $entries (printf "'%s': '%s'" $name (include "agent-operator.policyText" $value)) }}
{{- end }}
{{- printf "{%s}" (join ", " $entries) }}
{{- end }}

{{/*
A label selector, as `--selector` takes it, as matchExpressions (Kubernetes: "Labels and Selectors", set-based and
equality-based requirements).
*/}}
{{- define "agent-operator.matchExpressions" -}}
{{- range $one := regexFindAll "[^,()]+(\\([^()]*\\))?" . -1 }}
{{- $one = trim $one }}
{{- $set := regexFind "\\s(in|notin)\\s*\\(.*\\)$" $one }}
{{- if $set }}
- key: {{ regexFind "^[^ ]+" $one | quote }}
  operator: {{ ternary "NotIn" "In" (hasPrefix "notin" (trim $set)) }}
  values:
    {{- range regexFindAll "[^,() ]+" (regexFind "\\(.*\\)$" $one) -1 }}
    - {{ quote . }}
    {{- end }}
{{- else if contains "=" $one }}
- key: {{ regexFind "^[^!= ]+" $one | quote }}
  operator: {{ ternary "NotIn" "In" (contains "!=" $one) }}
  values: [{{ regexFind "[^= ]*$" $one | quote }}]
{{- else }}
- key: {{ trimPrefix "!" $one | trim | quote }}
  operator: {{ ternary "DoesNotExist" "Exists" (hasPrefix "!" $one) }}
{{- end }}
{{- end }}
{{- end }}
