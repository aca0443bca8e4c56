package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errEnvironment is reported for variables that a kernel cannot be given.
var errEnvironment = errors.New("cannot set environment variables")

// maxEnvironment bounds the variables of an execution or a context.
const maxEnvironment = 1000

// checkEnvironment checks the names and values of variables.
func checkEnvironment(vars map[string]string) error {
	if len(vars) > maxEnvironment {
		return fmt.Errorf("%w: more than %d", errEnvironment, maxEnvironment)
	}
	for key, value := range vars {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("%w: the name %q or its value is not valid", errEnvironment, key)
		}
	}
	return nil
}

// environmentCode returns code in a language that sets variables for good, and
// others until the code in after has run. What it keeps meanwhile is where no
// program looks.
func environmentCode(language string, set, during map[string]string) (before, after string, err error) {
	if len(set) == 0 && len(during) == 0 {
		return "", "", nil
	}
	switch language {
	case "python":
		return pythonEnvironment(set, during)
	case "javascript", "typescript":
		return scriptEnvironment(set, during)
	case "bash":
		return bashEnvironment(set, during)
	case "r":
		return rEnvironment(set, during)
	}
	if len(during) > 0 {
		return "", "", fmt.Errorf("%w while %s code runs; give them when you create the context", errEnvironment, language)
	}
	return "", "", nil // the next kernel of this context starts with them
}

// literal returns strings as JSON, which Python, JavaScript and R read too.
func literal(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

func pythonEnvironment(set, during map[string]string) (before, after string, err error) {
	if len(set) > 0 {
		vars, err := literal(set)
		if err != nil {
			return "", "", err
		}
		before = "__import__('os').environ.update(" + vars + ")\n"
	}
	if len(during) > 0 {
		vars, err := literal(during)
		if err != nil {
			return "", "", err
		}
		before += "(lambda o, e: (setattr(o, '_environ_before', {k: o.environ.get(k) for k in e}), o.environ.update(e)))(__import__('os'), " + vars + ")\n"
		after = "(lambda o: [o.environ.pop(k, None) if v is None else o.environ.__setitem__(k, v) for k, v in o.__dict__.pop('_environ_before', {}).items()])(__import__('os'))"
	}
	return before, after, nil
}

// scriptEnvironment is for JavaScript and TypeScript, so it has no types; the
// kernels of both may be Deno's or Node's.
func scriptEnvironment(set, during map[string]string) (before, after string, err error) {
	const write = "const g=globalThis,d=g.Deno,w=(k,v)=>v===undefined?(d?d.env.delete(k):delete g.process.env[k]):(d?d.env.set(k,v):g.process.env[k]=v);"
	if len(set) > 0 {
		vars, err := literal(set)
		if err != nil {
			return "", "", err
		}
		before = `new Function("e","` + write + `for(const k in e)w(k,e[k])")(` + vars + ");\n"
	}
	if len(during) > 0 {
		vars, err := literal(during)
		if err != nil {
			return "", "", err
		}
		before += `new Function("e","` + write + `const o=g[Symbol.for('environ')]={};for(const k in e){o[k]=d?d.env.get(k):g.process.env[k];w(k,e[k])}")(` + vars + ");\n"
		after = `new Function("` + write + `const o=g[Symbol.for('environ')]||{};for(const k in o)w(k,o[k]);delete g[Symbol.for('environ')]")();`
	}
	return before, after, nil
}

func bashEnvironment(set, during map[string]string) (before, after string, err error) {
	var b, a strings.Builder
	for _, key := range sorted(set) {
		if shellName(key) {
			fmt.Fprintf(&b, "export %s=%s\n", key, shellQuote(set[key]))
		}
	}
	for _, key := range sorted(during) {
		if !shellName(key) {
			return "", "", fmt.Errorf("%w: bash knows no variable named %q", errEnvironment, key)
		}
		kept := "__before_" + key
		fmt.Fprintf(&b, "if [ \"${%s+x}\" ]; then %s=\"$%s\"; fi; export %s=%s\n", key, kept, key, key, shellQuote(during[key]))
		fmt.Fprintf(&a, "if [ \"${%s+x}\" ]; then export %s=\"$%s\"; unset %s; else unset %s; fi\n", kept, key, kept, kept, key)
	}
	return b.String(), a.String(), nil
}

func shellName(key string) bool {
	return strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (key[0] < '0' || key[0] > '9')
}

func shellQuote(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

func rEnvironment(set, during map[string]string) (before, after string, err error) {
	if len(set) > 0 {
		if before, err = rSet(set); err != nil {
			return "", "", err
		}
	}
	if len(during) > 0 {
		names, err := literal(sorted(during))
		if err != nil {
			return "", "", err
		}
		change, err := rSet(during)
		if err != nil {
			return "", "", err
		}
		names = strings.Trim(names, "[]")
		before += "options(environ_before=Sys.getenv(c(" + names + "), unset=NA, names=TRUE))\n" + change
		after = "invisible({o <- getOption(\"environ_before\"); options(environ_before=NULL); Sys.unsetenv(names(o)[is.na(o)]); o <- o[!is.na(o)]; if (length(o)) do.call(Sys.setenv, as.list(o))})"
	}
	return before, after, nil
}

func rSet(vars map[string]string) (string, error) {
	var b strings.Builder
	b.WriteString("invisible(do.call(Sys.setenv, list(")
	for i, key := range sorted(vars) {
		name, err := literal(key)
		if err != nil {
			return "", err
		}
		value, err := literal(vars[key])
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name + "=" + value)
	}
	b.WriteString(")))\n")
	return b.String(), nil
}

func sorted(vars map[string]string) []string {
	keys := make([]string, 0, len(vars))
	for key := range vars {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
