// Package rig is what the demo, the bench and end-to-end tests stand on: a hermetic
// tailnet with real nodes in every role, a cluster network with its resolver, gateways
// run from the binary that ships, and members joined by the code that the agent uses.
//
// It promises that everything happens in network namespaces that it makes itself, that nothing
// outlives [Rig.Close] (or, for processes, this process), and that a probe's answer comes from
// packets: clients open their sockets in the namespace that they speak for, and a [Capture]
// proves by a packet of its own that it would have seen what it did not see. It must
// never work around a fault of what it tests. It needs root, and programs that use it must call
// peer.MaybeRun first in main or TestMain.
//
// # The network
//
//	underlay 10.99.0.0/24, fd99:10:99::/64: the "cluster network", one eth0 a host
//	├── core           control plane, relay, STUN; routes to the internet
//	│   └── internet       198.51.100.7, 2001:db8:51::7
//	├── cluster        the cluster's resolver and a service of the cluster
//	├── peer           plain node, and a nameserver on the tailnet
//	├── router         subnet router
//	│   └── backend        10.20.0.10, fd20:20::10
//	├── exit-fra1, exit-ams1    exit nodes
//	├── via            4via6 router, site 7
//	│   └── via-backend    10.30.0.10
//	├── connector      app connector
//	│   ├── saas           203.0.113.10
//	│   └── app            198.18.0.10, 2001:db8:18::10, and the connector's resolver
//	├── gateway …      runs tailgate-gateway
//	├── member …       joined to a gateway
//	└── neighbour      joined to nothing
//
// Every underlay host reaches the internet by itself, too, under its own address: that is
// how a leak shows.
package rig
