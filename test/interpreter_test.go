package test

import (
	"testing"
)

// interpreter are the flags of a server that has the template of the
// code-interpreter SDKs too. It is built once per data directory.
var interpreter = []string{"--templates", "base,code-interpreter-v1"}

func TestCodeInterpreterSDKs(t *testing.T) {
	s := up(t, interpreter...)
	t.Run("js", func(t *testing.T) { runSuite(t, s.in(t), "js", javaScript("interpreter/*.test.mjs")) })
	t.Run("py", func(t *testing.T) { runSuite(t, s.in(t), "py", python("interpreter_*.py")) })
}
