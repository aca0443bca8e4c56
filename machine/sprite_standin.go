package machine

import (
	"context"
	"os"
	"path/filepath"

	"github.com/atoll-cloud/atoll/image"
)

// spriteKey and buildSprite stand in for the sprite's own image until there is one.
func spriteKey() string { return image.BaseRecipe().Key() + "s" }

func buildSprite(ctx context.Context, dir string, progress func(image.Progress)) error {
	if err := image.Base(ctx, dir, progress); err != nil {
		return err
	}
	for name, line := range map[string]string{
		"etc/passwd": "sprite:x:1001:1001::/home/sprite:/bin/bash\n", "etc/group": "sprite:x:1001:\n", "etc/shadow": "sprite:*:1::::::\n",
	} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(line); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	home := filepath.Join(dir, "home/sprite")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	return os.Chown(home, 1001, 1001)
}
