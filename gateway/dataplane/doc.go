// Package dataplane keeps a gateway's network namespace as its intent says: the TUN's
// addresses, the members' routing table and rules, and the nftables table.
//
// It promises that what the kernel holds is what [topology.Gateway] describes, or that
// [Status] says what is missing; that tampering is healed within a second, by
// the kernel's notifications and not by polling; and that a process that starts finds its predecessor's
// state and disturbs none of it. It must never touch what is not tailgate's, member links among
// it: those are the joiner's, and known here by their names' prefix alone.
package dataplane
