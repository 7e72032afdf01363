{{- define "promantis.name" -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}

{{- define "promantis.selector" -}}
app.kubernetes.io/name: promantis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "promantis.labels" -}}
{{ include "promantis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "promantis.account" -}}
{{ .Values.serviceAccount.name | default (include "promantis.name" .) }}
{{- end -}}
