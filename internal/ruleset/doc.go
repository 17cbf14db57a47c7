// Package ruleset describes an nftables table of family inet as a plain value,
// and makes the kernel's table equal to it.
//
// A [Table] is built, compared and printed without a kernel. A [Conn] works on one
// network namespace: it observes a table as the same plain values, and applies
// one by replacing the whole table in a single netlink transaction, so that at
// no moment a packet meets half a table. It promises that:
//
//   - applying twice changes nothing: the counters of the first time go on;
//   - what was observed is never taken for what was wanted unless the kernel
//     holds exactly the expressions that [Conn.Apply] would send. A rule is decoded by
//     guessing, and the guess is believed only if encoding it again gives what was
//     read. Anything else is Unknown, which equals nothing;
//   - tables of other names and families are never touched.
//
// It must never run nft or any other program, merge its rules with those of
// others, or keep a memory of what it installed: it looks.
//
// # Two families in one rule
//
// In a table of family inet an address match belongs to one family. A [Rule]
// may list prefixes of both; it then becomes one kernel rule for each family,
// IPv4 first, which [Table.String] shows and [Conn.Observe] joins again. A negated list
// means "the address is in none of these" for both families: with IPv4 prefixes
// only, every IPv6 packet matches. Both kernel rules carry the comment, and
// [Conn.Counters] adds their counters up.
//
// # What the library does not do
//
// Writing goes through github.com/google/nftables. Reading goes through its
// expression types only, because its reader (v0.3.0) leaves out expressions that
// it does not know, rt and byteorder among them, and takes "ct mark set" for a load: a rule
// with a foreign "socket" match would read as one without. Its Monitor ends at the
// first lost message (ENOBUFS); package kernel tells of changes, of nftables' too.
//
// # Reading at one moment
//
// A table takes several requests to read. The kernel numbers its transactions; a reading
// counts only if the number is the same before and after. What the kernel counts outside of
// transactions, such as a table's use count, is not read.
package ruleset
