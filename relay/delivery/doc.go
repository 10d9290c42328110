// Package delivery takes what is in custody to the next hop, and says for each
// recipient what became of it.
//
// The steps of one lease, in order:
//
//  1. Dispatcher leases what is due, never more of one site than its bound.
//  2. Router turns the recipient domain into hosts and addresses (RFC 5321
//     section 5.1, RFC 7505), or into the result that ends the attempt.
//  3. Policy is asked again (Dispatcher.Ask): what was revoked is held.
//  4. Transport makes the attempt: SMTP opens or reuses a connection, hands the
//     message over, and returns one Result a recipient.
//  5. Failures for good become a bounce (Dispatcher.Notice).
//  6. The queue settles results, facts and bounce in one durable batch.
//
// It guarantees: a recipient is reported Delivered only after the next hop
// answered 2yz to the end of data; content is sent octet for octet as it was
// kept, dot-stuffed, or not at all; what a server says is bounded, and is made
// printable before it is kept; a server that is slow, silent or hostile costs
// only its own site; every goroutine ends before Stop returns.
//
// It is not the place for rules about when to try again, which are the queue's,
// nor for anything that decides whether a message may leave.
package delivery
