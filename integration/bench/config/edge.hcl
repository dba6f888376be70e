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
  api "bench" {
{{- range $i, $r := .Routes}}
    route "r{{$i}}" {
      path_prefix = "{{.Prefix}}"
      upstream {
        addresses = [{{range $j, $e := (index $.ByName .Cluster).Endpoints}}{{if $j}}, {{end}}"{{$e}}"{{end}}]
{{- if $.BackH2}}
        protocol  = "http2"
{{- end}}
      }
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
