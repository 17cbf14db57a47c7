// Command bench compares tailgate's gateway with an official tailscaled that is used as a gateway in the same place,
// and prints the ratio of the two beside each goal.
//
// It promises that the two differ in nothing but the program and what the program itself sets
// up: the same tailnet and peer, a network namespace of its own for each on the same network, one member each on the
// same kind of link, the binaries as they ship. It counts what packets did, never what a program says
// of itself. It must never touch the machine's own network, nor its DNS, which a tailscaled would: that one runs in a mount
// namespace without /etc and the system bus.
//
// # The two sides
//
// Ours is the binary that "go tool task build" makes, run by package rig as the demo does. Theirs is
// tailscaled from its own module (test/tools/tailscale), stripped, with a configuration file, a kernel TUN, its own
// policy routing and netfilter rules, and what an operator adds to make it a gateway; see type official.
//
// # The method
//
// A round takes every step once with each side, one right after the other; a ratio is of the two
// figures of one round. Every second round begins with the other side. The result is the median of the
// ratios, with the least and the greatest, and the medians of both sides' figures.
//
//   - tcp1-up, tcp1-down, tcp4-up, tcp4-down: one or four TCP streams, to the peer or from it, sent and received by
//     processes of this program. The number of bytes is fixed for all rounds and both sides, by a calibration at the
//     start, so that the CPU time spent compares: the gateway process's (utime and stime in
//     /proc/PID/stat) and the whole machine's (all but idle, iowait and steal in /proc/stat), which has the
//     softirqs in it, and also both ends and the peer's engine.
//   - udp: datagrams of 64 bytes, offered at one and a half times what the calibration saw delivered, counted at the
//     receiver.
//   - rtt: 500 pings 5 ms apart; the peer's kernel answers.
//   - idle, loaded: VmRSS, and PSS from smaps_rollup; 10 s after a start that carried a few pings only, and
//     at once after the loads above.
//   - ready, login: from the execution of the program until the first reply to a member that pings every 5 ms, with the identity kept
//     and as a new device.
//   - reload: from before the file is written until the kernel's routing table shows it (a subnet
//     route comes or goes), told by the kernel. Ours watches the file; theirs is asked to read it. The median of ten.
//   - crash: SIGKILL and an immediate start under 100 pings a second: the longest gap between replies.
//   - size: the binary's file; our image is nothing else.
//
// What disturbs figures is the rest of the machine: how busy it was before the start is printed with the result.
// Goals decide nothing, unless --strict is given.
package main
