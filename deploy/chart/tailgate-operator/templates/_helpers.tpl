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

{{- /* The agent's; agent/daemon/rbac.go has the name, too. */ -}}
{{- define "tailgate.agent.name" -}}tailgate-agent{{- end }}

{{- define "tailgate.agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tailgate.agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tailgate.agent.labels" -}}
{{ include "tailgate.agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tailgate
{{- end }}

{{- /*
The folders of the node that the agent sees at their own paths because of CNI: those above the folders in
question, which others may replace as a whole. A mount must be there once only, so one that is above two of them
is writable when either has to be (as /var/lib/cni on OpenShift, which has the binaries and the results there).
*/ -}}
{{- define "tailgate.agent.cniFolders" -}}
{{- $bin := dir .Values.cni.binDir }}
{{- $conf := dir .Values.cni.confDir }}
{{- $cache := dir .Values.cni.cacheDir }}
- {name: cni-bin, path: {{ $bin }}}
{{- if ne $conf $bin }}
- {name: cni-conf, path: {{ $conf }}}
{{- end }}
{{- if not (has $cache (list $bin $conf)) }}
- {name: cni-cache, path: {{ $cache }}, readOnly: true}
{{- end }}
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
