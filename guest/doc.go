// Package guest is the daemon that runs as the first process inside every
// machine: it serves processes, terminals, files and watches to clients over
// the protocol that published E2B SDKs speak (they call it envd), takes the
// host's settings for this copy of a snapshot, and reaps orphans.
//
// It is restored from memory snapshots, so nothing here may depend on the wall
// clock at start, on the host's name, or on random numbers drawn early. Timers
// and deadlines are monotonic and go on where they were; only what is promised
// in wall-clock time (signed URLs) looks at that.
//
// A copy of a machine with running programs is told so by init (wire.Init.Copy).
// Random number generators that live in programs then get new seeds: the daemon
// makes them call what they export themselves, as a debugger does (reseed.go).
//
// Clients are as powerful as root in their own machine (the default user has
// password-less sudo); the daemon therefore defends the host's side (control
// token, bounded memory, bounded logs) and not one guest user from another.
//
// Lock order: Server.settingsMu, processTable.mu, process.mu, fanout.mu; none
// is held while calling into a client's stream.
package guest
