package harness

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// AwaitTemplate waits until a template that the server builds is there. The
// base template is there once the server is ready; others take minutes more.
func (s *Server) AwaitTemplate(ctx context.Context, name string) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(firstStart); time.Now().Before(end); {
		all, err := s.Client.Templates(ctx)
		if err != nil {
			return fmt.Errorf("list the templates: %w", err)
		}
		for _, t := range all {
			if slices.Contains(t.Names, name) && t.BuildStatus == "ready" {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return fmt.Errorf("the server ended before the template %s was built\n%s", name, s.log)
		case <-poll.C:
		}
	}
	return fmt.Errorf("the template %s was not built within %v:\n%s", name, firstStart, s.log)
}
