package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/client"
)

// Exit codes; "atoll help exit-codes" explains them to people.
const (
	codeFailed        = 1
	codeUsage         = 2
	codeOurs          = 125
	codeNotExecutable = 126
	codeNotFound      = 127
	codeSignal        = 128
)

// failure is an error with an exit code and a hint on what to do about it.
type failure struct {
	err  error // nil: exit with the code and say nothing
	hint string
	code int
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// hinted adds a hint.
func (f *failure) hinted(hint string) *failure { f.hint = hint; return f }

// usage is an error of the person at the keyboard.
func usage(format string, args ...any) *failure {
	return &failure{err: fmt.Errorf(format, args...), code: codeUsage}
}

// exitWith ends the command with a code and no message.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &failure{code: code}
}

// asOurs marks failures of Atoll itself in commands whose exit code is
// otherwise the guest program's.
func asOurs(err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) && f.code != codeFailed {
		return err
	}
	ours := &failure{err: err, code: codeOurs}
	if f != nil {
		ours.hint = f.hint
	}
	return ours
}

// report prints what went wrong, if anything, and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{err: err, code: codeFailed}
		if strings.HasPrefix(err.Error(), "unknown command") { // cobra has no type for it
			f.code = codeUsage
		}
	}
	if f.err == nil {
		return f.code
	}
	if f.hint == "" {
		f.hint = hintFor(err)
	}
	fmt.Fprintf(a.err, "atoll: %s\n", oneLine(message(err)))
	if f.hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", oneLine(f.hint))
	}
	return f.code
}

// message is what err says, without the prefixes that only a programmer needs.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return strings.Replace(err.Error(), ce.Error(), ce.Message(), 1)
	}
	return err.Error()
}

// hintFor says what usually mends an error.
func hintFor(err error) string {
	if connect.IsWireError(err) {
		return "" // a guest's words; they are about its files, programs and users
	}
	switch client.Status(err) {
	case http.StatusNotFound:
		return "\"atoll ls\" shows the sandboxes"
	case http.StatusConflict, http.StatusBadGateway:
		if strings.Contains(err.Error(), errPaused.Error()) {
			return "\"atoll resume\" wakes it"
		}
	case http.StatusTooManyRequests:
		return "pause or end some sandboxes (atoll ls, atoll pause, atoll kill) or raise the team's limit"
	}
	if errors.Is(err, client.ErrUnreachable) {
		return "is the server running? Start it with \"atoll up\", or check --api-url"
	}
	if s := err.Error(); strings.HasPrefix(s, "unknown command") {
		return "\"atoll --help\" lists the commands"
	}
	return ""
}

// oneLine keeps a message, which may hold words of a guest or several errors, on
// one line and free of terminal control.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return strings.Join(strings.Fields(printable(s)), " ")
}
