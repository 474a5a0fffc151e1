{{/* The members and their addresses, as clients want them. */}}
{{- define "microservices.etcdEndpoints" -}}
{{- range $index := until (int .Values.etcd.members) }}{{ if $index }},{{ end }}http://etcd-{{ $index }}.etcd:2379{{ end }}
{{- end }}

{{/* The members and their addresses, as they want them of each other. */}}
{{- define "microservices.etcdInitialCluster" -}}
{{- range $index := until (int .Values.etcd.members) }}{{ if $index }},{{ end }}etcd-{{ $index }}=http://etcd-{{ $index }}.etcd:2380{{ end }}
{{- end }}
