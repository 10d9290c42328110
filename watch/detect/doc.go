// Package detect sees campaigns: it reads what happened to messages as a stream of
// events and says what is not as usual, with its evidence, in a sentence.
//
//	ledger ─► Of ─► Event ─► Detector.Observe ─► Finding, with the Action it proposes
//
// It never acts. A Finding proposes a Step of the response ladder; who applies it,
// whether the organisation allows it, and how it is undone is the business of the
// program that reads the findings.
//
// Everything is a function of the events: time is theirs, there is no clock, no
// goroutine and no random number. So the same events give the same findings,
// and the state can be written down between any two of them (Snapshot, Restore).
//
// It is bounded in everything that strangers write: the number of principals,
// of keys in each window, and the length of each text it keeps.
//
// What the signals are, from which numbers on they speak, and why: signals.go and
// docs/detection.md.
package detect
