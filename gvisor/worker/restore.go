package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// imageCheck is the comparison of an image with its description, which goes on
// while the sandbox is made.
type imageCheck struct {
	state, pages <-chan error // get one value each
}

// checkImage starts to compare the image of a request with what it must be, if
// the request says that. gVisor does not survive a damaged kernel state, which
// is small, so that is looked at before it is loaded; memory is looked at while
// it is loaded, since the guest is paused.
func checkImage(req *protocol.Request) imageCheck {
	state, pages := make(chan error, 1), make(chan error, 1)
	if req.Image == nil {
		state <- nil
		pages <- nil
		return imageCheck{state, pages}
	}
	go func() {
		state <- checkFiles(req, imageFiles[:pagesFile]...)
		pages <- checkFiles(req, imageFiles[pagesFile])
	}()
	return imageCheck{state, pages}
}

// restoreGuest loads the guest's memory and lets it run, unless it is to stay
// paused.
func restoreGuest(req *protocol.Request, conf *config.Config, cont *container.Container,
	network *boot.CreateLinksAndRoutesArgs, check imageCheck,
) error {
	if err := <-check.state; err != nil {
		return err
	}
	restored := cont.Restore(conf, req.ImageDir, false, loadsLater(req.ImageDir), network)
	// A wrong page is the reason of whatever else went wrong.
	if err := <-check.pages; err != nil {
		return err
	}
	if restored != nil {
		return withoutStack(restored)
	}
	if !req.Create.Paused {
		return nil
	}
	return protocol.SetPaused(req.StateDir, true)
}

// largeImage is from which size in bytes a guest's memory goes on being loaded
// while it runs; it waits for what it needs and is not there. Should the rest
// turn out to be unreadable, the guest dies. With less memory the gain is too
// small to give up knowing that all could be loaded.
const largeImage = 64 << 20

func loadsLater(imageDir string) bool {
	info, err := os.Stat(filepath.Join(imageDir, imageFiles[pagesFile]))
	return err == nil && info.Size() > largeImage
}

// checkFiles compares files of an image that must be there.
func checkFiles(req *protocol.Request, names ...string) error {
	for _, name := range names {
		i := slices.IndexFunc(req.Image.Files, func(f protocol.File) bool { return f.Name == name })
		if i < 0 {
			return fmt.Errorf("%w: %s is not described", protocol.ErrDamaged, name)
		}
		if err := req.Image.Files[i].Check(req.ImageDir); err != nil {
			return err
		}
	}
	return nil
}

// withoutStack cuts off what gVisor adds to the errors of its decoder.
func withoutStack(err error) error {
	text, _, cut := strings.Cut(err.Error(), "\ngoroutine ")
	if !cut {
		return err
	}
	return errors.New(strings.TrimRight(text, ":\n"))
}
