package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// interpreterPackages are what Debian gives to the code interpreter: fonts for
// plots, R, and tools that such code calls.
var interpreterPackages = []string{
	"file", "fonts-dejavu-core", "fonts-liberation", "jq", "r-base-core", "r-cran-irkernel", "zip",
}

// interpreterFiles are the extension of the Python kernel, the kernels' own
// descriptions, and what installs packages that Debian does not have.
//
//go:embed interpreter/*.py interpreter/*.js interpreter/*.R interpreter/*.json interpreter/kernels interpreter/requirements.txt interpreter/install.sh interpreter/deno
var interpreterFiles embed.FS

const (
	// kernelsFolder has a folder for each language with its kernel.json, which is
	// Jupyter's. Its metadata may have, under "atoll", code to be executed
	// silently: "start" whenever the kernel has started, "warm" before a snapshot
	// of it is kept.
	kernelsFolder = "usr/local/share/jupyter/kernels"
	// startedKernels lists the languages whose kernels are started at boot.
	startedKernels = "etc/atoll/interpreter.json"
	ipythonConfig  = "etc/ipython/ipython_kernel_config.py"
	// denoStart is loaded by the kernels of JavaScript and TypeScript.
	denoStart = "usr/local/share/atoll/start.js"
	// rStart runs the kernel of R.
	rStart = "usr/local/share/atoll/start.R"
	// denoConfig makes JavaScript look for packages in node_modules, wherever
	// npm has put them; there is one for all directories.
	denoConfig = "deno.json"
	// pythonFolder has the packages of the suite's Python that are not Debian's.
	pythonFolder = "usr/local/lib/python3.11/dist-packages"
)

// InterpreterRecipe returns what determines the content that Interpreter builds.
func InterpreterRecipe() Recipe {
	recipe := Recipe{Version: recipeVersion, Kind: "interpreter", Suite: baseSuite, Packages: interpreterSystem()}
	recipe.Files = hashFiles(interpreterFiles)
	return recipe
}

// interpreterSystem lists the Debian packages: all of the base template's and more.
func interpreterSystem() []string { return slices.Concat(basePackages, interpreterPackages) }

// hashFiles digests names and contents.
func hashFiles(files fs.FS) string {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("image: embedded files cannot be read: %v", err))
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Interpreter builds the root file system of the code interpreter in an empty
// directory: everything of Base, and kernels for Python with packages for data
// analysis, JavaScript, TypeScript, Bash and R. It fetches from Debian's
// archive, PyPI and npm; where the host's environment names proxies, mirrors
// (PIP_INDEX_URL, NPM_CONFIG_REGISTRY) or authorities (SSL_CERT_FILE), those
// are used.
func Interpreter(ctx context.Context, dir string, progress func(Progress)) error {
	files, err := fs.Sub(interpreterFiles, "interpreter")
	if err != nil {
		return err
	}
	spec := Spec{Suite: baseSuite, Packages: interpreterSystem(), Dir: dir, Progress: progress}
	spec.install, spec.installUnits = files, pythonPackages(files)
	if err := buildBase(ctx, spec); err != nil {
		return fmt.Errorf("build the code interpreter: %w", err)
	}
	if err := finishInterpreter(dir, files); err != nil {
		return fmt.Errorf("finish the code interpreter: %w", err)
	}
	return nil
}

// pythonPackages counts those that are fetched from PyPI.
func pythonPackages(files fs.FS) int {
	text, err := fs.ReadFile(files, "requirements.txt")
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "==")
}

// finishInterpreter writes the files that are ours.
func finishInterpreter(dir string, files fs.FS) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	places := map[string]string{
		"interpreter.json":         startedKernels,
		"ipython_kernel_config.py": ipythonConfig,
		"deno.json":                denoConfig,
		"start.js":                 denoStart,
		"start.R":                  rStart,
	}
	sources, err := fs.Glob(files, "*.py")
	if err != nil {
		return err
	}
	for _, name := range sources {
		if places[name] == "" {
			places[name] = path.Join(pythonFolder, "atoll_interpreter", name)
		}
	}
	kernels, err := fs.Glob(files, "kernels/*.json")
	if err != nil {
		return err
	}
	for _, name := range kernels {
		language := strings.TrimSuffix(path.Base(name), ".json")
		places[name] = path.Join(kernelsFolder, language, "kernel.json")
	}
	for name, place := range places {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if err := replaceFile(root, textFile{place, 0o644, string(text)}); err != nil {
			return err
		}
	}
	return makeUserSite(root)
}

// makeUserSite makes the folder into which pip installs as the user. Python
// looks there only if it is there when it starts, and kernels have started
// when somebody installs the first package.
func makeUserSite(root *os.Root) error {
	name := strings.TrimPrefix(UserHome, "/")
	for _, part := range []string{".local", "lib", "python3.11", "site-packages"} {
		name = path.Join(name, part)
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		if err := root.Lchown(name, UserID, UserID); err != nil {
			return err
		}
	}
	return nil
}
