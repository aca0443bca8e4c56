package test

import (
	"context"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/client"
)

// inSprite runs a shell script in a sprite and returns its output.
func inSprite(t testing.TB, g *client.SpriteGuest, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := g.Output(ctx, client.SpriteCommand{Args: []string{"bash", "-c", script}}, 1<<20)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out))
}

// TestTheLastFiveCheckpointsAreSeenInside looks at checkpoints from a sprite.
func TestTheLastFiveCheckpointsAreSeenInside(t *testing.T) {
	s := upSprites(t)
	s.newSprite("seen")
	t.Cleanup(func() {
		if err := s.Client.DeleteSprite(context.Background(), "seen"); err != nil {
			t.Error(err)
		}
	})
	g := s.Client.SpriteGuest("seen")
	if got := inSprite(t, g, "ls /.sprite/checkpoints"); got != "" {
		t.Errorf("before the first there is %q", got)
	}
	inSprite(t, g, "echo 0 > ~/n; chmod 600 ~/n")
	for range 7 {
		if _, err := g.Checkpoint(t.Context(), client.NewCheckpoint{}, nil); err != nil {
			t.Fatal(err)
		}
		inSprite(t, g, "echo $(($(cat ~/n) + 1)) > ~/n")
	}
	look := func(when, ids, contents string) {
		t.Helper()
		if got := inSprite(t, g, `echo $(ls /.sprite/checkpoints); cat /.sprite/checkpoints/v*/home/sprite/n | tr -d '\n'`); got != ids+"\n"+contents {
			t.Errorf("%s it sees %q", when, got)
		}
	}
	look("after seven", "all v3 v4 v5 v6 v7", "23456")
	inSprite(t, g, "cd /.sprite/checkpoints; ! sudo touch x && ! sudo touch v7/x && ! sudo rm v7 && ! (echo 9 > v7/home/sprite/n)")
	if err := g.DeleteCheckpoint(t.Context(), "v6"); err != nil {
		t.Fatal(err)
	}
	look("after one was deleted", "all v2 v3 v4 v5 v7", "12346")
	if got := inSprite(t, g, "ls /.sprite/checkpoints/all 2>&1 || true"); !strings.Contains(got, "denied") {
		t.Errorf("a search from the root goes through all checkpoints: %q", got)
	}
	if err := g.Restore(t.Context(), "v3", nil); err != nil {
		t.Fatal(err)
	}
	if got := inSprite(t, g, "cat ~/n /.sprite/checkpoints/pre-restore-v3-*/home/sprite/n"); got != "2\n7" {
		t.Errorf("after the restore there is %q", got)
	}
}
