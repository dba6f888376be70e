edge {
  api "{{.Name}}" {
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
}
