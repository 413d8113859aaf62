{{- define "moorage.labels" -}}
app.kubernetes.io/name: moorage
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "moorage.deployer.labels" -}}
{{ include "moorage.labels" . }}
app.kubernetes.io/component: deployer
{{- end }}

{{/* Of what is in no namespace: it must not be another release's. */}}
{{- define "moorage.deployer.clusterName" -}}
{{ printf "%s-%s-deployer" .Release.Namespace .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Whether the deployer makes a namespace for each group. */}}
{{- define "moorage.deployer.ownNamespaces" -}}
{{ if contains "{group}" .Values.deployer.namespace }}true{{ end }}
{{- end }}

{{- define "moorage.deployer.subject" -}}
- kind: ServiceAccount
  name: {{ .Values.deployer.serviceAccount.name }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* What it may do where replicas run: exactly what it does. Server-side apply is a patch, and a create of what is not there. */}}
{{- define "moorage.deployer.rules" -}}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
# A Deployment's deletion waits for what it owns. Clusters with the admission plug-in OwnerReferencesPermissionEnforcement
# want this permission for it.
- apiGroups: [apps]
  resources: [deployments/finalizers]
  verbs: [update]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services, persistentvolumeclaims]
  verbs: [list, watch, create, patch, delete]
# Never to be read: neither by name nor by list, and no watch keeps them in memory.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, patch, delete, deletecollection]
# Pods are the Deployments' to make. A mark on one that is to go, and its end.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
# The readiness gate: the data plane routes to it.
- apiGroups: [""]
  resources: [pods/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [list]
{{- end }}

{{/* What is in no namespace. A volume of an NFS folder belongs to the cluster. */}}
{{- define "moorage.deployer.clusterRules" -}}
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [list, watch, create, patch, delete]
{{- if include "moorage.deployer.ownNamespaces" . }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [create]
{{- end }}
{{- end }}
