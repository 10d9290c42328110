// Package mail holds the words every other package speaks: addresses and
// domains, header fields and messages that keep every byte, the envelope, and
// the closed sets of reasons and SMTP replies. It also names the Resolver that
// all look-ups go through.
//
// A value of this package that was parsed is valid: a Domain is a lower-case
// A-label name, an Address can be written back to the wire, a Header is made of
// well-formed fields. Zero values are named where they mean something (the zero
// Address is the null sender) and are refused everywhere else.
//
// Nothing here decides whether a message may pass. The package reads what
// strangers wrote, says precisely what is wrong with it, and never repairs it:
// a relay that signs by identity may not guess.
package mail
