package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// registryVariables are what the environment of this host may say about how to
// reach registries. Only the installer gets them (apt has settings of its own),
// in a file; nothing of them stays in the image.
var registryVariables = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "NPM_CONFIG_REGISTRY", "npm_config_registry",
}

// registrySettings returns those variables that are set, one a line.
func registrySettings(lookup func(string) (string, bool)) string {
	var settings strings.Builder
	for _, name := range registryVariables {
		if value, ok := lookup(name); ok && !strings.Contains(value, "\n") {
			settings.WriteString(name + "=" + value + "\n")
		}
	}
	return settings.String()
}

// authorities are files in which systems keep the certificates they trust.
var authorities = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// placeInstaller puts an installer's files, this host's settings and the
// authorities that it trusts into a folder and returns the program.
func placeInstaller(host string, files fs.FS) (string, error) {
	folder := filepath.Join(host, "install")
	if err := os.CopyFS(folder, files); err != nil {
		return "", err
	}
	program := filepath.Join(folder, "install.sh")
	if err := os.Chmod(program, 0o755); err != nil {
		return "", err
	}
	settings := []byte(registrySettings(os.LookupEnv))
	if err := os.WriteFile(filepath.Join(folder, "environment"), settings, 0o600); err != nil {
		return "", err
	}
	places := authorities
	if named := os.Getenv("SSL_CERT_FILE"); named != "" {
		places = []string{named}
	}
	for _, place := range places {
		text, err := os.ReadFile(place)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		return program, os.WriteFile(filepath.Join(folder, "ca.pem"), text, 0o644)
	}
	return program, nil
}
