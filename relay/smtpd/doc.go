// Package smtpd is the SMTP server: it turns what a stranger writes into
// transactions, and nothing else into anything.
//
// A connection goes through these steps:
//
//  1. On a Proxy port the balancer's header says who the peer is; on an
//     ImplicitTLS port the handshake comes first. Then the banner.
//  2. EHLO, STARTTLS and AUTH fill the Session.
//  3. Each MAIL makes a new Transaction; the Handler judges it and each RCPT.
//  4. The message is read once, by DATA (dots unstuffed) or by BDAT (octets
//     counted): header kept, body collected and hashed, its MIME parts followed
//     while it arrives.
//  5. The Handler takes the message. Only a custody.Receipt becomes a 250.
//
// It guarantees:
//
//   - A command line ends with CRLF, the data of DATA with CRLF.CRLF, that of BDAT
//     with the number of octets announced, and nothing else ends any. A bare CR or
//     bare LF in a command, and bare CR, bare LF or NUL in message data, are
//     answered 521 BARE_NEWLINE; the connection is closed and nothing after it is
//     read as a command.
//   - A read that fails or times out inside message data ends the connection: the
//     rest of a message never becomes commands. For the same reason BDAT without a
//     size, input behind DATA before its 354 (RFC 2920 section 3.1) and the verbs
//     of HTTP end it. A chunk that is refused is swallowed to the octet, and its
//     transaction is gone.
//   - Nothing outside ASCII is an address unless SMTPUTF8 was given (RFC 6531).
//   - What is advertised is enforced; what is not advertised is refused.
//   - Refusals by policy cost the peer nothing: they neither spend the error budget
//     nor close, because the mail of other customers flows over the same connection.
//   - Memory a connection is bounded: 4 KiB of input while it is idle, 32 KiB in
//     message data and a line of a chunk, the header up to its limit, the body up to
//     SpoolThreshold, the boundaries of open MIME parts up to MaxMIMEDepth.
//
// It is not for deciding who may send (the Handler does) nor for adding Received
// (app does, from Session and Transaction).
package smtpd
