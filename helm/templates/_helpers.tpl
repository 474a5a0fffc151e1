{{/* Labels of an object or a pod. Takes a dict: root, name, component, version (may be empty). */}}
{{- define "microservices.labels" -}}
{{- with .name }}
app.kubernetes.io/name: {{ . }}
{{- end }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .version }}
app.kubernetes.io/version: {{ . | quote }}
{{- end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: microservices
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image of ours. Takes a dict: root, name, values. */}}
{{- define "microservices.image" -}}
{{- if .values.image }}{{ .values.image }}{{ else }}
{{- with .root.Values.images.registry }}{{ . }}/{{ end }}{{ .name }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* What every pod has. Takes a dict: root, user, and fsGroup (true where it has a volume). */}}
{{- define "microservices.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  {{- if .fsGroup }}
  fsGroup: {{ .user }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* What every container has. */}}
{{- define "microservices.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Spreads pods over nodes. Takes a dict: name, and versions (true for a Deployment). */}}
{{- define "microservices.spread" -}}
topologySpreadConstraints:
  - topologyKey: kubernetes.io/hostname
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app.kubernetes.io/name: {{ .name }}
    {{- if .versions }}
    # Each version spreads by itself.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
{{- end }}

{{/* A claim for a volume. Takes the values of a storage. */}}
{{- define "microservices.claim" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    volumeMode: Filesystem
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
  status:
    phase: Pending
{{- end }}

{{/* Annotations of a pod. Takes a dict: root, and config (what it reads, as text). */}}
{{- define "microservices.annotations" -}}
{{- if .config }}
# Another configuration makes new pods.
checksum/config: {{ sha256sum .config }}
{{- end }}
{{- with .root.Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget. Takes a dict: root, name, component, and keepUnhealthy. */}}
{{- define "microservices.budget" -}}
{{- if .root.Values.podDisruptionBudgets.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "microservices.labels" . | nindent 4 }}
spec:
  # One pod alone may go too: a budget that kept it would block every drain of its node.
  maxUnavailable: 1
  {{- if not .keepUnhealthy }}
  # A pod that does not work may always be moved away.
  unhealthyPodEvictionPolicy: AlwaysAllow
  {{- end }}
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
{{- end }}
{{- end }}

{{/* The component label of each of the three. */}}
{{- define "microservices.component" -}}
{{- if eq . "persistence-server" }}backend{{ else }}frontend{{ end }}
{{- end }}

{{/* The value of the label "store" of persistence-server's pods. */}}
{{- define "microservices.store" -}}
{{ .Values.store }}
{{- end }}

{{/* The Secret with the store's password or files, or nothing. */}}
{{- define "microservices.storeSecret" -}}
{{- if has .Values.store (list "redis" "postgres") -}}
{{ index .Values .Values.store "existingSecret" | default .Values.store }}
{{- else if eq .Values.store "external" -}}
{{ .Values.externalStore.existingSecret }}
{{- end }}
{{- end }}
