// Command image writes a container image of one static binary, without a container engine:
//
//	image -binary bin/serai -out bin/serai-image.tar
//
// The archive is that of `docker save` and an OCI layout at once, so that docker load, podman load, skopeo and containerd
// take it. The same binary gives the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
)

// image says what is in the image.
type image struct {
	Binary, As string   // the file, and where it stands in the image, where it is the entry point
	Roots      string   // certificate authorities; empty: none
	Command    []string // arguments where who runs it gives none
	User       string
	Tag        string
	Arch       string
}

func main() {
	var i image
	out := flag.String("out", "bin/serai-image.tar", "`file` to write")
	flag.StringVar(&i.Binary, "binary", "bin/serai", "`file` to put into the image")
	flag.StringVar(&i.As, "as", "/envoy", "`path` of it there; under the name envoy Serai takes Envoy's command line")
	flag.StringVar(&i.Roots, "roots", "", "`file` of certificate authorities, for what has none of its own to go by (AWS Lambda, OTLP over TLS)")
	flag.StringVar(&i.User, "user", "101:101", "`uid:gid` that it runs as; 101 is Envoy's, which Nomad takes a transparent proxy to have")
	flag.StringVar(&i.Tag, "tag", "serai:latest", "`name:tag`")
	flag.StringVar(&i.Arch, "arch", runtime.GOARCH, "`architecture` of the binary, in Go's words")
	flag.Parse()
	i.Command = flag.Args()
	if err := i.save(*out); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(*out)
}

func (i *image) save(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := i.write(f); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}

// blob is a file of the archive that others refer to by its hash.
type blob struct {
	kind, digest string
	data         []byte
}

func newBlob(kind string, data []byte) blob {
	return blob{kind: kind, digest: digest(data), data: data}
}

func (b blob) path() string { return "blobs/sha256/" + b.digest }

func (b blob) descriptor() map[string]any {
	return map[string]any{"mediaType": b.kind, "digest": "sha256:" + b.digest, "size": len(b.data)}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// write writes the archive: the blobs, and the two tables of contents.
func (i *image) write(w io.Writer) error {
	files, err := i.layer()
	if err != nil {
		return err
	}
	packed, err := pack(files)
	if err != nil {
		return err
	}
	const oci = "application/vnd.oci.image."
	layer := newBlob(oci+"layer.v1.tar+gzip", packed)
	config := newBlob(oci+"config.v1+json", asJSON(map[string]any{
		"architecture": i.Arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{"User": i.User, "Entrypoint": []string{i.As}, "Cmd": i.Command},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(files)}},
	}))
	manifest := newBlob(oci+"manifest.v1+json", asJSON(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config.descriptor(), "layers": []any{layer.descriptor()},
	}))
	named := manifest.descriptor()
	named["annotations"] = map[string]string{"io.containerd.image.name": i.Tag, "org.opencontainers.image.ref.name": i.Tag[strings.LastIndexByte(i.Tag, ':')+1:]}

	archive := tar.NewWriter(w)
	for _, b := range []blob{layer, config, manifest} {
		if err := add(archive, b.path(), 0o644, b.data); err != nil {
			return err
		}
	}
	for _, file := range []struct {
		name    string
		content any
	}{
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
		{"index.json", map[string]any{"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": []any{named}}},
		{"manifest.json", []any{map[string]any{"Config": config.path(), "RepoTags": []string{i.Tag}, "Layers": []string{layer.path()}}}},
	} {
		if err := add(archive, file.name, 0o644, asJSON(file.content)); err != nil {
			return err
		}
	}
	return archive.Close()
}

// layer is the image's file system: the binary, and what else was asked for.
func (i *image) layer() ([]byte, error) {
	binary, err := os.ReadFile(i.Binary)
	if err != nil {
		return nil, fmt.Errorf("%w: run make build", err)
	}
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	if err := add(w, i.As, 0o755, binary); err != nil {
		return nil, err
	}
	if i.Roots != "" {
		roots, err := os.ReadFile(i.Roots)
		if err != nil {
			return nil, err
		}
		// Where Go looks for them, and where Consul says that Envoy finds them.
		for _, dir := range []string{"etc", "etc/ssl", "etc/ssl/certs"} {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
				return nil, err
			}
		}
		if err := add(w, "etc/ssl/certs/ca-certificates.crt", 0o644, roots); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return buffer.Bytes(), err
}

// add adds a file without a date or an owner, so that the same content gives the same bytes.
func add(w *tar.Writer, name string, mode int64, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(path.Clean(name), "/"), Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func pack(data []byte) ([]byte, error) {
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err := w.Close()
	return buffer.Bytes(), err
}

func asJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return data
}
