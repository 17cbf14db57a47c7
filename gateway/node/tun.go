package node

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// openTUN opens the TUN of that name, or makes it, and keeps it from vanishing with the
// process (TUNSETPERSIST, Documentation/networking/tuntap.rst): packets sent into it while nobody
// reads are dropped rather than routed another way, and addresses, routes and masqueraded
// connections stay.
//
// The device is the one of Tailscale's fork of WireGuard, which the engine is made for. WireGuard's own has to be adapted to it, and costs the
// gateway more: it copies what it puts together where the fork gathers (writev), and adds up checksums without AVX2.
func openTUN(name string, mtu int) (tun.Device, error) {
	dev, err := tun.CreateTUN(name, mtu)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("open TUN %s: another process holds it; stop the gateway or tailscaled that runs in this network namespace: %w", name, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open TUN %s: the gateway needs the capability NET_ADMIN and access to /dev/net/tun: %w", name, err)
	case errors.Is(err, unix.EINVAL):
		return nil, fmt.Errorf("open TUN %s: a link of that name exists and is not a TUN of ours; delete it or choose another with --tun: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("open TUN %s: %w", name, err)
	}
	// Through SyscallConn, because File.Fd would make the file blocking.
	raw, err := dev.File().SyscallConn()
	if err == nil {
		var ioctlErr error
		err = raw.Control(func(fd uintptr) { ioctlErr = unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1) })
		err = errors.Join(err, ioctlErr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep TUN %s beyond this process: %w", name, err), dev.Close())
	}
	return dev, nil
}
