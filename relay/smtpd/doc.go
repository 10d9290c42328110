// Package smtpd is the SMTP server: it turns what a stranger writes into
// transactions, and nothing else into anything.
//
// A connection goes through these steps:
//
//  1. On a Proxy port the balancer's header says who the peer is; on an
//     ImplicitTLS port the handshake comes first. Then the banner.
//  2. EHLO, STARTTLS and AUTH fill the Session.
//  3. Each MAIL makes a new Transaction; the Handler judges it and each RCPT.
//  4. DATA is read once: dots unstuffed, header kept, body collected and hashed
//     while it arrives.
//  5. The Handler takes the message. Only a custody.Receipt becomes a 250.
//
// It guarantees:
//
//   - A command line ends with CRLF, message data with CRLF.CRLF, and nothing
//     else ends either. A bare CR or bare LF in a command, and bare CR, bare LF or
//     NUL in message data, are answered 521 BARE_NEWLINE; the connection is closed
//     and nothing after it is read as a command.
//   - A read that fails or times out inside DATA ends the connection: the rest of a
//     message never becomes commands. For the same reason BDAT (not offered), input
//     behind DATA before its 354 (RFC 2920 section 3.1) and the verbs of HTTP end it.
//   - What is advertised is enforced; what is not advertised is refused.
//   - Refusals by policy cost the peer nothing: they neither spend the error budget
//     nor close, because the mail of other customers flows over the same connection.
//   - Memory a connection is bounded: 4 KiB of input while it is idle, 32 KiB in
//     DATA, the header up to its limit, the body up to SpoolThreshold.
//
// It is not for deciding who may send (the Handler does) nor for adding Received
// (app does, from Session and Transaction).
package smtpd
