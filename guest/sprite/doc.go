// Package sprite serves, inside the machine, what the Sprites API offers of one
// sprite: commands and their sessions, TCP proxies and listening ports, and
// files. The host authorises requests, wakes the machine and forwards them as
// they are; so what published SDKs expect on the wire is here.
//
// A session is a command with its output: it is the daemon's, and clients come
// and go. Each client has a place in the output of its own and bounded buffers;
// one that does not read holds up the command, as a full pipe would, unless
// others read too.
package sprite
