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

{{/* The operator reads the classes of the cluster where it may: two sources would contradict each other. */}}
{{- define "agent-operator.validateClasses" -}}
{{- if and (.Values.classes | default dict).objects (not .Values.watchNamespaces) }}
{{- fail "classes.objects is for an operator with watchNamespaces: this one reads the AgentClass objects of the cluster, so create them there" }}
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
