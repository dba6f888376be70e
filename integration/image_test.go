package integration_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// imageTool builds what `make image` runs.
func imageTool(ctx context.Context, t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "image")
	buildHere(ctx, t, "./integration/image", tool)
	return tool
}

// makeImage makes an image of a binary.
func makeImage(ctx context.Context, t *testing.T, tool, archive string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(ctx, tool, append([]string{"-out", archive}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("make image %s: %v\n%s", archive, err, out)
	}
}

// TestImage unpacks our image as an engine does, and starts it as Nomad's docker driver does: Envoy's arguments, a user that
// nobody has heard of, a root that cannot be written to, and in it nothing but the binary.
func TestImage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	env := harness.ForTest(t)
	tool, dir := imageTool(ctx, t), t.TempDir()
	first, second := filepath.Join(dir, "first.tar"), filepath.Join(dir, "second.tar")
	for _, archive := range []string{first, second} {
		makeImage(ctx, t, tool, archive, "-binary", seraiBinary(t), "-tag", "example.com/serai:1")
	}
	files := untar(t, first)
	if diff := cmp.Diff(files, untar(t, second)); diff != "" {
		t.Error("the same binary gives another image")
	}
	root := filepath.Join(env.Dir(), "mnt", "root") // shared with the namespace
	entrypoint := unpack(t, files, root)
	startImage(ctx, t, env, root, entrypoint)
}

// untar reads an archive.
func untar(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		files[header.Name], err = io.ReadAll(r)
		must(t, err)
	}
}

// descriptor is how the files of an image refer to one another.
type descriptor struct {
	Digest      string
	Size        int
	Annotations map[string]string
}

// blob is what a descriptor refers to.
func blob(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	data := files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != d.Digest || len(data) != d.Size {
		t.Fatalf("%s of %d bytes is %s of %d", d.Digest, d.Size, got, len(data))
	}
	return data
}

// unpack puts the image's file system into a folder, and returns the entry point. It goes by both tables of contents,
// which must agree.
func unpack(t *testing.T, files map[string][]byte, root string) string {
	t.Helper()
	var index struct{ Manifests []descriptor }
	must(t, json.Unmarshal(files["index.json"], &index))
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	must(t, json.Unmarshal(blob(t, files, index.Manifests[0]), &manifest))
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	must(t, json.Unmarshal(blob(t, files, manifest.Config), &config))
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	must(t, json.Unmarshal(files["manifest.json"], &saved))
	if saved[0].RepoTags[0] != "example.com/serai:1" || index.Manifests[0].Annotations["io.containerd.image.name"] != "example.com/serai:1" {
		t.Errorf("it is called %v and %v", saved[0].RepoTags, index.Manifests[0].Annotations)
	}
	if !strings.HasSuffix(manifest.Config.Digest, filepath.Base(saved[0].Config)) || !strings.HasSuffix(manifest.Layers[0].Digest, filepath.Base(saved[0].Layers[0])) {
		t.Errorf("index.json and manifest.json differ: %+v, %+v", manifest, saved)
	}
	r, err := gzip.NewReader(bytes.NewReader(blob(t, files, manifest.Layers[0])))
	must(t, err)
	layer, err := io.ReadAll(r)
	must(t, err)
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); got != config.Rootfs.DiffIDs[0] {
		t.Errorf("the layer is %s, and %s in the configuration", got, config.Rootfs.DiffIDs[0])
	}
	var names []string
	for in := tar.NewReader(bytes.NewReader(layer)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		names = append(names, header.Name)
		data, err := io.ReadAll(in)
		must(t, err)
		must(t, os.MkdirAll(root, 0o755))
		must(t, os.WriteFile(filepath.Join(root, header.Name), data, header.FileInfo().Mode()))
	}
	if !slices.Equal(names, []string{"envoy"}) || config.Config.User != "101:101" || len(config.Config.Entrypoint) != 1 {
		t.Errorf("it holds %v and starts %v as %s", names, config.Config.Entrypoint, config.Config.User)
	}
	return config.Config.Entrypoint[0]
}

// startImage starts the image beside a service, with the bootstrap file where Nomad puts it.
func startImage(ctx context.Context, t *testing.T, env *harness.Env, root, entrypoint string) {
	t.Helper()
	space, err := env.Namespace(ctx)
	must(t, err)
	consul, err := env.Consul(ctx, harness.ConsulConfig{Namespace: space})
	must(t, err)
	token, err := consul.ServiceToken(ctx, "web")
	must(t, err)
	must(t, consul.RegisterService(ctx, &consulapi.AgentServiceRegistration{
		Name: "web", Port: 8080, Connect: &consulapi.AgentServiceConnect{SidecarService: &consulapi.AgentServiceRegistration{Port: 20000}},
	}, token))
	path, err := env.Tool("consul")
	must(t, err)
	must(t, os.Mkdir(filepath.Join(root, "secrets"), 0o755)) // a mount of Nomad's
	bootstrap, err := env.Start(harness.Command{
		Name: "bootstrap", Path: "/bin/sh", Namespace: space, Env: consul.Environ(token),
		Args: []string{"-c", `"$0" connect envoy -sidecar-for web -grpc-addr "$1" -admin-bind 127.0.0.2:19001 -bootstrap >"$2"`, path, consul.GRPCAddr, filepath.Join(root, "secrets", "envoy_bootstrap.json")},
	})
	must(t, err)
	if err := bootstrap.Wait(ctx); err != nil {
		t.Fatalf("%v: %s", err, bootstrap.Log())
	}
	for _, user := range []string{"101:101", "1000:1000"} {
		proxy, err := env.Start(harness.Command{
			Name: "image-" + user[:3], Path: "/bin/sh", Namespace: space,
			Args: []string{
				"-c", `mount --bind /mnt/root /mnt/root && mount -o remount,ro,bind /mnt/root && cd /mnt/root && exec chroot --userspec="$0" /mnt/root "$@"`, user, entrypoint,
				"-c", "/secrets/envoy_bootstrap.json", "-l", "info", "--concurrency", "1", "--disable-hot-restart",
			},
		})
		must(t, err)
		must(t, harness.Until(ctx, "the sidecar of the image, as "+user, func(ctx context.Context) error {
			got, err := fetch(ctx, space.Client(), "http://127.0.0.2:19001/ready")
			if err == nil && got.status != http.StatusOK {
				err = errors.New(got.body)
			}
			return err
		}))
		if strings.Contains(proxy.Log(), "level=WARN") || strings.Contains(proxy.Log(), "level=ERROR") {
			t.Errorf("as %s:\n%s", user, proxy.Log())
		}
		must(t, proxy.Signal(os.Interrupt))
		if err := proxy.Wait(ctx); err != nil {
			t.Errorf("as %s: %v\n%s", user, err, proxy.Log())
		}
	}
}
