package debug

import (
	"testing"

	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
)

// Whatever the tailnet, the kernel or a file says is shown, and is never HTML.
func TestEveryTextIsEscaped(t *testing.T) {
	var n netmapView
	var c configView
	var k kernelView
	var m membersView
	inNetmap, inConfig, inKernel, inMembers := pagetest.Fill(&n), pagetest.Fill(&c), pagetest.Fill(&k), pagetest.Fill(&m)
	k.InspectError = ""                                                               // or most of the page would be missing
	pagetest.CheckEscaped(t, "netmap", netmapPage(n, fixedNow), inNetmap, ".Exit.ID") // it has a name
	pagetest.CheckEscaped(t, "config", configPage(c, fixedNow), inConfig)
	pagetest.CheckEscaped(t, "kernel", kernelPage(k, fixedNow), inKernel, ".InspectError")
	pagetest.CheckEscaped(t, "members", membersPage(m), inMembers, ".Tunnel.Addrs", ".Tunnel.Member")
}
