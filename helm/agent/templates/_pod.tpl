{{/*
The pod template of one component. Takes a dictionary: `root` (the chart's context), `component` (api or worker),
`selector` (its labels as YAML), `resources` (YAML or nothing).
*/}}
{{- define "agent.podTemplate" -}}
{{- $worker := eq .component "worker" }}
{{- $selector := .selector }}
{{- $resources := .resources }}
{{- with .root -}}
metadata:
  labels:
    {{- $selector | nindent 4 }}
    app.kubernetes.io/part-of: portside
    {{- include "agent.texts" .Values.podLabels | indent 4 }}
  annotations:
    portside.dev/config-checksum: {{ include "agent.configChecksum" . }}
    {{- $scraped := dict "prometheus.io/scrape" "true" "prometheus.io/port" "9090" "prometheus.io/path" "/metrics" }}
    {{- $annotations := merge dict (.Values.podAnnotations | default dict) (ternary dict $scraped .Values.monitoring.serviceMonitor.enabled) }}
    {{- include "agent.texts" (omit $annotations "portside.dev/config-checksum") | indent 4 }}
spec:
  {{- with include "agent.serviceAccountName" . }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  automountServiceAccountToken: false
  # Or a Service named `api` in this namespace would set API_PORT, a setting of the agent's own.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{ include "agent.verbatim" . }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{ include "agent.verbatim" . }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{ include "agent.verbatim" . }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{ include "agent.verbatim" . }}
  {{- end }}
  topologySpreadConstraints:
    {{- $spread := list (dict "topologyKey" "kubernetes.io/hostname") (dict "topologyKey" "topology.kubernetes.io/zone") }}
    {{- range .Values.topologySpreadConstraints | default $spread }}
    - maxSkew: {{ .maxSkew | default 1 }}
      topologyKey: {{ .topologyKey | quote }}
      whenUnsatisfiable: {{ .whenUnsatisfiable | default "ScheduleAnyway" }}
      labelSelector:
        matchLabels:
          {{- $selector | nindent 10 }}
    {{- end }}
  terminationGracePeriodSeconds: {{ .Values.rollout.terminationGracePeriodSeconds | default (include "agent.longestAnswer" .) }}
  {{- $user := include "agent.userOfContainers" . | fromJson }}
  {{- with include "agent.securityContextOfPods" . }}
  securityContext: {{ . }}
  {{- end }}
  {{- $tools := include "agent.toolContainers" . | trim }}
  {{- if or .Values.initContainers .Values.runtime $tools }}
  initContainers:
    {{- range .Values.initContainers }}
    - {{ include "agent.asUser" (dict "container" . "user" $user) }}
    {{- end }}
    {{- with $tools }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if .Values.runtime }}
    {{- include "agent.runtime" . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: agent
      image: {{ include "agent.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- if $worker }}
      args: [worker]
      {{- end }}
      ports:
        - name: http
          containerPort: 8000
          protocol: TCP
        - name: metrics
          containerPort: 9090
          protocol: TCP
      envFrom:
        - configMapRef:
            name: {{ include "agent.fullname" . | quote }}
        {{- range .Values.envFrom }}
        - {{ include "agent.verbatim" . }}
        {{- end }}
      {{- with .Values.extraEnv }}
      env: {{ include "agent.verbatim" . }}
      {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if include "agent.secretSources" . }}
        - name: secrets
          mountPath: /etc/portside/secrets
          readOnly: true
        {{- end }}
        {{- with include "agent.toolMounts" . }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- range .Values.extraVolumeMounts }}
        - {{ include "agent.verbatim" . }}
        {{- end }}
      {{- with $resources }}
      resources:
        {{- . | nindent 8 }}
      {{- end }}
      startupProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 1
        failureThreshold: 120
        timeoutSeconds: 1
      livenessProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 10
        failureThreshold: 6
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /health/ready, port: http}
        periodSeconds: 5
        failureThreshold: 3
        timeoutSeconds: 5
      terminationMessagePolicy: FallbackToLogsOnError
      {{- if not $worker }}
      # A stopping pod still gets requests until every proxy has removed its endpoint.
      lifecycle:
        preStop:
          sleep:
            seconds: 5
      {{- end }}
      {{- with include "agent.withUser" (dict "context" (include "agent.securityContext" . | fromYaml) "user" $user) }}
      securityContext: {{ . }}
      {{- end }}
    {{- range .Values.sidecars }}
    - {{ include "agent.asUser" (dict "container" . "user" $user) }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- with include "agent.secretSources" . }}
    - name: secrets
      projected:
        sources:
          {{- . | nindent 10 }}
    {{- end }}
    {{- with include "agent.toolVolumes" . }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- with include "agent.runtimeVolumes" . }}
    {{- . | trim | nindent 4 }}
    {{- end }}
    {{- range .Values.extraVolumes }}
    - {{ include "agent.verbatim" . }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Name of the pods' ServiceAccount; nothing for the namespace's `default`. */}}
{{- define "agent.serviceAccountName" -}}
{{- with .Values.serviceAccount }}
{{- .name | default (ternary (include "agent.fullname" $) "" .create) }}
{{- end }}
{{- end }}

{{/* Seconds that the longest whole answer may take with what surrounds it. */}}
{{- define "agent.longestRequest" -}}
{{- add .Values.agent.requestTimeoutSeconds 15 }}
{{- end }}

{{/* Seconds that the longest answer, streamed or not, may take with what surrounds it. */}}
{{- define "agent.longestAnswer" -}}
{{- max .Values.agent.requestTimeoutSeconds (.Values.agent.streamTimeoutSeconds | default 300) | add 15 }}
{{- end }}

{{/* How a changed agent replaces the running one. */}}
{{- define "agent.strategy" -}}
type: {{ .Values.rollout.strategy }}
{{- if eq .Values.rollout.strategy "RollingUpdate" }}
rollingUpdate:
  maxSurge: {{ .Values.rollout.maxSurge | toJson }}
  maxUnavailable: {{ .Values.rollout.maxUnavailable | toJson }}
{{- end }}
{{- end }}
