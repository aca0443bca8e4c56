package guest

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// openTerminal opens a pseudo-terminal whose slave belongs to the user.
func openTerminal(size *processpb.PTY_Size, user *account) (master, slave int, err error) {
	master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	slave, err = openSlave(master, size, user)
	if err != nil {
		unix.Close(master)
		return 0, 0, err
	}
	return master, slave, nil
}

func openSlave(master int, size *processpb.PTY_Size, user *account) (int, error) {
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return 0, fmt.Errorf("ask for the terminal's number: %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return 0, fmt.Errorf("unlock the terminal: %w", err)
	}
	if err := setWindow(master, size); err != nil {
		return 0, err
	}
	path := "/dev/pts/" + strconv.Itoa(number)
	slave, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	// The group stays as devpts chose it, so that only tty's tools write to it.
	if os.Geteuid() == 0 {
		if err := unix.Fchown(slave, int(user.uid), -1); err != nil {
			unix.Close(slave)
			return 0, fmt.Errorf("give %s to user %s: %w", path, user.name, err)
		}
	}
	return slave, nil
}

// setTerminalSize resizes an open terminal, which signals its foreground
// processes.
func setTerminalSize(tty *os.File, size *processpb.PTY_Size) error {
	conn, err := tty.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = setWindow(int(fd), size) }); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return failed
}

// setWindow sets rows and columns; 0 becomes the customary 24 by 80.
func setWindow(fd int, size *processpb.PTY_Size) error {
	window := &unix.Winsize{Row: dimension(size.GetRows(), 24), Col: dimension(size.GetCols(), 80)}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, window); err != nil {
		return fmt.Errorf("set the terminal's size: %w", err)
	}
	return nil
}

func dimension(wanted uint32, fallback uint16) uint16 {
	if wanted == 0 {
		return fallback
	}
	return uint16(min(wanted, 1<<16-1))
}
