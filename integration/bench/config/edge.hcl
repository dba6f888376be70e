edge {
  listener "in" {
    address = "127.0.0.1:{{.Port}}"
{{- if .TLS}}
    tls {
      certificate_file = "{{.Cert}}"
      key_file         = "{{.Key}}"
    }
{{- end}}
  }
{{- if .Log}}
  access_log {
    path   = "{{.Log}}"
    format = "text"
  }
{{- end}}
}
