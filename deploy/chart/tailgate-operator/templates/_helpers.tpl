{{- /* The names are fixed: there is one operator in a cluster, as there is one of each of its CRDs. */ -}}
{{- define "tailgate.name" -}}tailgate-operator{{- end }}

{{- define "tailgate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tailgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tailgate.labels" -}}
{{ include "tailgate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tailgate
{{- end }}

{{- /* The reference of an image: list of its values and the chart's appVersion. */ -}}
{{- define "tailgate.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end }}

{{- /* The priority class that is made, if any: what stands for an empty name. */ -}}
{{- define "tailgate.madePriorityClass" -}}
{{- if .Values.priorityClass.create }}{{ .Values.priorityClass.name }}{{ end -}}
{{- end }}
