package network

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// tapBuffer is how much may wait for a guest that is slow or paused, in bytes.
const tapBuffer = 4 << 20

// OpenTap opens the guest's end of the link: a packet socket that carries
// Ethernet frames, each behind a virtio-net header, as gVisor's user-space
// stack expects it. The caller hands it to the guest's sandbox and closes it.
func (s *Slot) OpenTap() (*os.File, error) {
	n := s.network
	var tap *os.File
	err := inNamespace(int(n.home.Fd()), int(n.taps.Fd()), func() error {
		link, err := net.InterfaceByName(s.guestEnd())
		if err != nil {
			return err
		}
		// Protocol 0 keeps the socket silent until it is bound to its link.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("making a packet socket: %w", err)
		}
		tap = os.NewFile(uintptr(fd), s.guestEnd())
		return configureTap(fd, link.Index)
	})
	if err != nil {
		if tap != nil {
			tap.Close()
		}
		return nil, fmt.Errorf("opening the guest's end of slot %d: %w", s.Index, err)
	}
	return tap, nil
}

func configureTap(fd, link int) error {
	// The header must be agreed on before the first frame can arrive.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("asking for offload headers: %w", err)
	}
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, tapBuffer); err != nil {
			return fmt.Errorf("setting the size of buffers: %w", err)
		}
	}
	const allProtocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: link}); err != nil {
		return fmt.Errorf("binding a packet socket: %w", err)
	}
	return nil
}
