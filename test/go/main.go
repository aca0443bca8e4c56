// Command atoll-sdk-tests drives a real Atoll with the published Sprites SDK for
// Go, and tells about each test as one line of JSON, so that they are counted
// and reported like any other test of the project.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	sprites "github.com/superfly/sprites-go"
)

// patience is how long one test may take.
const patience = time.Minute

// test is one test with a sprite that it shares with the others.
type test struct {
	name string
	run  func(ctx context.Context, t *suite) error
}

// suite is what tests share.
type suite struct {
	client *sprites.Client // without control connections
	sprite *sprites.Sprite
	made   int
}

// freshName is a name that no other test of this run has.
func (t *suite) freshName() string {
	t.made++
	return fmt.Sprintf("go-%d-%d", os.Getpid(), t.made)
}

func newClient(options ...sprites.Option) *sprites.Client {
	options = append([]sprites.Option{sprites.WithBaseURL(os.Getenv("SPRITES_API_URL"))}, options...)
	return sprites.New(os.Getenv("SPRITE_TOKEN"), options...)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	t := &suite{client: newClient()}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	name := t.freshName()
	if _, err := t.client.CreateSprite(ctx, name, nil); err != nil {
		return fmt.Errorf("create the sprite of the tests: %w", err)
	}
	t.sprite = t.client.Sprite(name)
	defer t.client.DeleteSprite(context.Background(), name)
	failed := 0
	for _, one := range tests {
		if !tell(one, t) {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d tests failed", failed)
	}
	return nil
}

// tell runs a test and writes its line.
func tell(one test, t *suite) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	err := safely(ctx, one, t)
	line := map[string]any{"name": one.name, "file": "main.go", "ok": err == nil, "millis": float64(time.Since(start).Microseconds()) / 1000}
	if err != nil {
		line["error"] = err.Error()
	}
	text, _ := json.Marshal(line) // of strings and numbers
	fmt.Println(string(text))
	return err == nil
}

func safely(ctx context.Context, one test, t *suite) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return one.run(ctx, t)
}

// same fails where two values differ in print.
func same(what string, got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("%s is %q, want %q", what, g, w)
	}
	return nil
}

// all joins the errors of checks.
func all(checks ...error) error { return errors.Join(checks...) }
