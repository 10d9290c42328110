// Package sink is a next hop that behaves as mailbox providers do when they do
// not simply take what comes: storms of 4yz replies, greylisting, connections
// that end after some messages, slow answers, rates, few connections.
//
// A Sink is one provider at one address: a domain leads there by its MX. What it
// says is decided by a Behaviour, a small state machine over questions and their
// time, with a seed where it has a choice. What it does is counted: Tally says
// what was taken, what came twice, what was put off, and how many connections
// there were.
//
// It is for the range and for measurements: it believes what it is told, keeps no
// message, and does not speak TLS.
package sink
