//go:build linux

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What callers may want to tell apart, with errors.Is.
var (
	// ErrLinkExists says that a veth cannot be made because its name, or its peer's
	// name in the peer's namespace, is taken. It wraps unix.EEXIST.
	ErrLinkExists = fmt.Errorf("the link name is taken: %w", unix.EEXIST)
	// ErrNoLink says that a link is not there. It wraps unix.ENODEV.
	ErrNoLink = fmt.Errorf("there is no such link: %w", unix.ENODEV)
	// ErrNotOurs says that a link that was to be deleted is not one that we made.
	ErrNotOurs = errors.New("the link is somebody else's")
	// ErrRouteExists says that somebody else's route has the table, destination and
	// metric of a route that was to be added. It wraps unix.EEXIST.
	ErrRouteExists = fmt.Errorf("somebody else's route is in its place: %w", unix.EEXIST)
	// ErrReadOnly says that a sysctl has another value than the wanted one and
	// that this process may not change it.
	ErrReadOnly = errors.New("the sysctl cannot be written from here")
)
