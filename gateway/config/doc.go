// Package config is the gateway's live configuration: it loads, checks and
// watches the file, and says which exit node a selector in it means.
//
// The file has Tailscale's own format, [ipn.ConfigVAlpha] ("alpha0"), as HuJSON.
// The package promises:
//
//   - Every key of the format is applied or refused by name, with a sentence that
//     says what to write instead. None is ignored.
//   - A file is the whole truth: a key that is not in it has its default, whatever
//     an earlier file said. Defaults are those that the comments of
//     [ipn.ConfigVAlpha] name, then those of [ipn.NewPrefs]. So acceptRoutes is true
//     by default, where the Linux CLI's default is false.
//   - A bad file changes nothing: the last good configuration stays in force.
//   - An exit node that cannot be found drops traffic; it never lets it out by
//     another way.
//   - A change of what a path leads to is noticed through inotify, whether by
//     writing, renaming, retargeting a symlink or replacing a directory on the way.
//     What inotify does not report is not noticed: something mounted over the
//     path, and writes on another machine of a network file system.
//
// It must never poll, never start anything in the engine itself, and never let
// an auth key into an error, a log line or what it prints of itself.
package config
