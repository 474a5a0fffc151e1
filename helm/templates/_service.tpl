{{/* The settings of one of the three, complete, as YAML. Takes a dict: root, name. */}}
{{- define "microservices.settings" -}}
{{- $values := .root.Values }}
{{- $password := "/run/secrets/store/password" }}
{{- $layers := list }}
{{- if eq .name "hello-server" }}
{{- $layers = list $values.helloServer.settings }}
{{- else if eq .name "hash-server" }}
{{- $layers = list $values.hashServer.settings (dict "PERSISTENCE_HOST" "persistence-server" "PERSISTENCE_PORT" 8081) }}
{{- else }}
{{- $layers = list (dict "STORE" $values.store "DRAIN_SECONDS" 10) }}
{{- if eq $values.store "file" }}
{{- $layers = append $layers (dict "DRAIN_SECONDS" 0) }}
{{- else if eq $values.store "redis" }}
{{- $layers = append $layers (dict "REDIS_HOST" "redis" "REDIS_PORT" 6379 "REDIS_PASSWORD_FILE" $password "REDIS_REQUIRE_DURABLE" true) }}
{{- else if eq $values.store "postgres" }}
{{- $layers = append $layers (dict "PGHOST" "postgres" "PGPORT" 5432 "PGUSER" "postgres" "PGPASSWORD_FILE" $password) }}
{{- else if eq $values.store "etcd" }}
{{- $layers = append $layers (dict "ETCD_ENDPOINTS" (include "microservices.etcdEndpoints" .root)) }}
{{- else if not $values.externalStore.settings.STORE }}
{{- fail "store is external: externalStore.settings must say which one in STORE (redis, postgres or etcd)" }}
{{- else }}
{{- $layers = append $layers $values.externalStore.settings }}
{{- end }}
{{- $layers = append $layers $values.persistenceServer.settings }}
{{- end }}
{{- /* Later ones win. Not "merge": it takes 0 and false for nothing. */}}
{{- $settings := dict }}
{{- range $layer := $layers }}
{{- range $name, $value := $layer }}
{{- $_ := set $settings $name $value }}
{{- end }}
{{- end }}
{{- range $name, $value := $settings }}
{{- /* Numbers of YAML and JSON are floats here: as integers, or 1e+06 comes out. */}}
{{ $name }}: {{ if kindIs "float64" $value }}{{ int64 $value | toString | quote }}{{ else }}{{ toString $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{/* Metadata, spec of the pod and all: one of the three. Takes a dict: root, name, values. */}}
{{- define "microservices.template" -}}
{{- $root := .root }}
{{- $component := include "microservices.component" .name }}
{{- $config := include "microservices.settings" . }}
{{- $settings := fromYaml $config }}
{{- $embedded := and (eq .name "persistence-server") (eq $root.Values.store "file") }}
{{- $secret := "" }}
{{- if eq .name "persistence-server" }}{{ $secret = include "microservices.storeSecret" $root }}{{ end }}
{{- $number := index (dict "hello-server" 0 "persistence-server" 1 "hash-server" 2) .name }}
metadata:
  labels:
    {{- include "microservices.labels" (dict "root" $root "name" .name "component" $component "version" $root.Chart.AppVersion) | nindent 4 }}
    {{- if eq .name "persistence-server" }}
    store: {{ include "microservices.store" $root }}
    {{- end }}
  annotations: {{- include "microservices.annotations" (dict "root" $root "config" $config) | nindent 4 }}
spec:
  {{- include "microservices.pod" (dict "root" $root "user" 65532 "fsGroup" $embedded) | nindent 2 }}
  # Draining, finishing, and a margin.
  terminationGracePeriodSeconds: {{ add (int $settings.DRAIN_SECONDS) (int (default 15 $settings.SHUTDOWN_TIMEOUT_SECONDS)) 10 }}
  {{- if not $embedded }}
  {{- include "microservices.spread" (dict "name" .name "versions" true) | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "microservices.image" (dict "root" $root "name" (replace "-" "_" .name) "values" .values) }}
      imagePullPolicy: {{ $root.Values.images.pullPolicy }}
      envFrom:
        - configMapRef:
            name: {{ .name }}
      {{- if $embedded }}
      env:
        - name: DATA_DIR
          value: /data
      {{- end }}
      ports:
        - name: http
          containerPort: {{ add 8080 $number }}
        - name: admin
          containerPort: {{ add 9080 $number }}
      startupProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 60
      # For a process that hangs, and nothing less: a minute.
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        periodSeconds: 2
        timeoutSeconds: 2
        # While a dependency is away all replicas are not ready at once, and a Service without
        # pods would refuse requests that can wait: so it takes longer than they do.
        failureThreshold: {{ if eq .name "hello-server" }}3{{ else }}{{ max 3 (div (add (int (default 10000 $settings.REQUEST_TIMEOUT_MS)) 4000) 2000) }}{{ end }}
      resources: {{- toYaml .values.resources | nindent 8 }}
      securityContext: {{- include "microservices.container" . | nindent 8 }}
      {{- if $embedded }}
      volumeMounts:
        - name: data
          mountPath: /data
      {{- else if $secret }}
      volumeMounts:
        - name: store
          mountPath: /run/secrets/store
          readOnly: true
      {{- end }}
  {{- if and $secret (not $embedded) }}
  volumes:
    - name: store
      secret:
        secretName: {{ $secret }}
  {{- end }}
{{- end }}

{{/* The Deployment of one of the three. Takes a dict: root, name, values. */}}
{{- define "microservices.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "microservices.labels" (dict "root" .root "name" .name "component" (include "microservices.component" .name) "version" .root.Chart.AppVersion) | nindent 4 }}
spec:
  {{- if dig "autoscaling" "enabled" false .values }}
  # Once it runs, the number is the autoscaler's business: an upgrade keeps it.
  replicas: {{ dig "spec" "replicas" .values.replicas (lookup "apps/v1" "Deployment" .root.Release.Namespace .name) }}
  {{- else }}
  replicas: {{ .values.replicas | default 2 }}
  {{- end }}
  revisionHistoryLimit: 3
  # A new pod has served for this long before an old one goes.
  minReadySeconds: 5
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template: {{- include "microservices.template" . | nindent 4 }}
{{- end }}

{{/* What stands beside the workload of one of the three: settings, Service, budget, autoscaler. */}}
{{- define "microservices.surroundings" -}}
{{- $component := include "microservices.component" .name }}
{{- $labels := include "microservices.labels" (dict "root" .root "name" .name "component" $component "version" .root.Chart.AppVersion) }}
{{- $number := index (dict "hello-server" 0 "persistence-server" 1 "hash-server" 2) .name }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "microservices.labels" (dict "root" .root) | nindent 4 }}
data: {{- include "microservices.settings" . | nindent 2 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  selector:
    app.kubernetes.io/name: {{ .name }}
    {{- if eq .name "persistence-server" }}
    {{- if eq .root.Values.store "file" }}
    # Scaled out, a second pod would count from elsewhere.
    statefulset.kubernetes.io/pod-name: persistence-server-0
    {{- else }}
    # Pods on another store, left over from a change of stores, count from elsewhere.
    store: {{ include "microservices.store" .root }}
    {{- end }}
    {{- end }}
  ports:
    - name: http
      port: {{ add 8080 $number }}
      targetPort: http
      appProtocol: http
    - name: admin
      port: {{ add 9080 $number }}
      targetPort: admin
      appProtocol: http
{{ include "microservices.budget" (dict "root" .root "name" .name "component" $component "version" .root.Chart.AppVersion) }}
{{- if dig "autoscaling" "enabled" false .values }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          # Not a share of what a pod requests, which is next to nothing.
          type: AverageValue
          averageValue: {{ .values.autoscaling.averageCpu }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 60
{{- end }}
{{- end }}
