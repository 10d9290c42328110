// Package screen asks scanners about a message before it is signed or delivered:
// rspamd over HTTP, ClamAV's clamd over its stream protocol, and milters
// (protocol 6), of which it is the client; and our own checks (package content).
//
// Its steps: Screen.Ask gives one Question to every Scanner at once, each within
// a bounded time; what each says is an Opinion; the strictest is the Verdict. A
// scanner that does not answer, answers nonsense or cannot take the message is
// lost, and so is the message's screening: the caller puts it off or holds it.
// A scanner that was lost several times in a row is left alone for a while, and
// then asked about one message to see whether it is back.
//
// It guarantees that a message is never passed because somebody did not look:
// the zero Action is Lost, and so is every answer that is not understood whole.
// An answer is bounded in octets and time whatever a scanner does. The message is
// read from where it lies and never changed: a scanner may add a field whose name
// the configuration lists, and nothing else. What a scanner wrote reaches logs and
// ledger as short printable ASCII, and the peer never.
//
// It is not for finding out who sent a message. Evidence is stripped before, and
// scanners are given no secret: no password, no secret header.
package screen
