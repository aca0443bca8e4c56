package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Config is what an image says about how to run it.
type Config struct {
	Env          []string // "NAME=value"
	Cmd          []string
	Entrypoint   []string
	User         string
	WorkingDir   string
	ExposedPorts []string // "8080/tcp", sorted
	Labels       map[string]string
	// Digest identifies the image's content: "sha256:…" of its manifest.
	Digest string
}

// Auth are credentials for a registry; the zero value is none.
type Auth struct {
	Username, Password string
	Token              string // a bearer token, instead of the two
}

// Limits bound what an image may bring. Zero values take the defaults.
type Limits struct {
	Bytes   int64 // of all files unpacked; 16 GiB
	Entries int64 // in all layers; 2 million
	Layers  int   // 256
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 16 << 30
	}
	if l.Entries == 0 {
		l.Entries = 2_000_000
	}
	if l.Layers == 0 {
		l.Layers = 256
	}
	return l
}

// OCIOptions are choices for OCI.
type OCIOptions struct {
	Auth     Auth
	Limits   Limits
	Progress func(Progress)
	// Transport carries requests to registries; nil is http.DefaultTransport.
	// A server that takes references from clients gives one that refuses to
	// connect to its own networks.
	Transport http.RoundTripper
}

const maxConfigBytes = 4 << 20

// Source is where an image comes from; exactly one field is set.
type Source struct {
	Reference string // in a registry, such as "registry.example/team/app:1.2"
	Layout    string // a directory in OCI layout; "dir:tag" where it has several images
	Archive   string // a file as "docker save" writes it
}

// ParseSource reads "oci:DIR[:TAG]", "docker-archive:FILE", or a reference,
// optionally after "docker://". Only a caller that trusts its user with this
// host's files may take the first two from them.
func ParseSource(s string) (Source, error) {
	if dir, ok := strings.CutPrefix(s, "oci:"); ok && dir != "" {
		return Source{Layout: dir}, nil
	}
	if file, ok := strings.CutPrefix(s, "docker-archive:"); ok && file != "" {
		return Source{Archive: file}, nil
	}
	ref := strings.TrimPrefix(s, "docker://")
	if _, err := name.ParseReference(ref); err != nil || len(ref) > 512 {
		return Source{}, fmt.Errorf("%w: %.100q is not a reference such as registry/name:tag", ErrInvalid, s)
	}
	return Source{Reference: ref}, nil
}

// OCI unpacks an image for this platform into an empty directory and returns
// its configuration. After an error the directory has to be removed.
func OCI(ctx context.Context, src Source, dir string, o OCIOptions) (Config, error) {
	img, err := openImage(ctx, src, o)
	if err != nil {
		return Config{}, fmt.Errorf("open image: %w", err)
	}
	config, err := readConfig(img)
	if err != nil {
		return Config{}, fmt.Errorf("read image: %w", err)
	}
	if err := unpackImage(ctx, img, dir, o); err != nil {
		return Config{}, fmt.Errorf("unpack image: %w", err)
	}
	return config, nil
}

func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

func openImage(ctx context.Context, src Source, o OCIOptions) (v1.Image, error) {
	switch {
	case src.Archive != "":
		return tarball.ImageFromPath(src.Archive, nil)
	case src.Layout != "":
		return openLayout(src.Layout)
	}
	ref, err := name.ParseReference(src.Reference)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	auth := authn.Anonymous
	if o.Auth != (Auth{}) {
		auth = authn.FromConfig(authn.AuthConfig{Username: o.Auth.Username, Password: o.Auth.Password, RegistryToken: o.Auth.Token})
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuth(auth), remote.WithPlatform(platform()), remote.WithUserAgent("atoll")}
	if o.Transport != nil {
		options = append(options, remote.WithTransport(o.Transport))
	}
	return remote.Image(ref, options...)
}

// openLayout finds the image of a layout directory: by the tag after the last
// colon where the whole is not a directory, else the only one for the platform.
func openLayout(dir string) (v1.Image, error) {
	tag := ""
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		if i := strings.LastIndexByte(dir, ':'); i > 0 {
			dir, tag = dir[:i], dir[i+1:]
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not an OCI layout: %w", ErrInvalid, dir, err)
	}
	found, err := imagesIn(index, tag, 0)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%w: the layout has %d images for %s with tag %q; name one by DIR:TAG", ErrInvalid, len(found), platform(), tag)
	}
	return found[0], nil
}

func imagesIn(index v1.ImageIndex, tag string, depth int) ([]v1.Image, error) {
	const maxNesting = 4
	manifest, err := index.IndexManifest()
	if err != nil || depth > maxNesting {
		return nil, err
	}
	var found []v1.Image
	for _, m := range manifest.Manifests {
		if tag != "" && m.Annotations["org.opencontainers.image.ref.name"] != tag {
			continue
		}
		if m.MediaType.IsIndex() {
			inner, err := index.ImageIndex(m.Digest)
			if err != nil {
				return nil, err
			}
			more, err := imagesIn(inner, "", depth+1)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		if !m.MediaType.IsImage() || m.Platform != nil && !m.Platform.Satisfies(platform()) {
			continue
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		found = append(found, img)
	}
	return found, nil
}

func readConfig(img v1.Image) (Config, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return Config{}, err
	}
	if manifest.Config.Size > maxConfigBytes {
		return Config{}, fmt.Errorf("%w: its configuration has %d bytes", ErrTooLarge, manifest.Config.Size)
	}
	for _, l := range manifest.Layers {
		// Such a layer could make this host fetch any address.
		if len(l.URLs) > 0 {
			return Config{}, fmt.Errorf("%w: a layer is to be fetched from outside the registry", ErrHostile)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Config{}, err
	}
	if file.OS != "" && file.OS != "linux" || file.Architecture != "" && file.Architecture != runtime.GOARCH {
		return Config{}, fmt.Errorf("%w: it is for %s/%s, not for linux/%s", ErrInvalid, file.OS, file.Architecture, runtime.GOARCH)
	}
	digest, err := img.Digest()
	if err != nil {
		return Config{}, err
	}
	c := file.Config
	config := Config{Env: c.Env, Cmd: c.Cmd, Entrypoint: c.Entrypoint, User: c.User, WorkingDir: c.WorkingDir, Labels: c.Labels, Digest: digest.String()}
	for port := range c.ExposedPorts {
		config.ExposedPorts = append(config.ExposedPorts, port)
	}
	slices.Sort(config.ExposedPorts)
	return config, nil
}

func unpackImage(ctx context.Context, img v1.Image, dir string, o OCIOptions) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	limits := o.Limits.withDefaults()
	if len(layers) > limits.Layers {
		return fmt.Errorf("%w: it has %d layers; %d are allowed", ErrTooLarge, len(layers), limits.Layers)
	}
	x, err := newExtractor(dir, limits)
	if err != nil {
		return err
	}
	defer x.close()
	for i, layer := range layers {
		if o.Progress != nil {
			o.Progress(Progress{Step: fmt.Sprintf("unpacking layer %d of %d", i+1, len(layers)), Done: int64(i), Total: int64(len(layers))})
		}
		if err := unpackLayer(ctx, x, layer); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	if o.Progress != nil {
		o.Progress(Progress{Step: "done", Done: int64(len(layers)), Total: int64(len(layers))})
	}
	return nil
}

// unpackLayer extracts one layer and checks that it is what the image's
// configuration names.
func unpackLayer(ctx context.Context, x *extractor, layer v1.Layer) (err error) {
	want, err := layer.DiffID()
	if err != nil {
		return err
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	hash := newHashReader(&contextReader{ctx, content})
	if err := x.layer(hash); err != nil {
		return err
	}
	// Whatever follows the archive's end belongs to the digest too.
	if _, err := io.Copy(io.Discard, x.bounded(hash)); err != nil {
		return err
	}
	if got := hash.sum(); got != want.String() {
		return fmt.Errorf("%w: its content has digest %s, not %s", ErrInvalid, got, want)
	}
	return nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
