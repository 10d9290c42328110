// Package corpus lets thousands of real messages of many years ago go through
// the running relay: what comes out is what went in, octet for octet, with the
// relay's fields before it. The few that its strict rules refuse are listed by
// name in testdata/refused.golden (go test -update writes it anew).
//
// The messages are mailing list mail, forwarded mail and spam, so their Received,
// List-Id and Delivered-To fields say that no application wrote them. They come
// in unchanged all the same, as the mailbox mail of one Microsoft 365 tenant: its
// stamps, which the harness adds at the end of each header, decide about the
// origin there, and are taken off again by the relay. The one organisation owns
// every domain that stands in a From or Sender field and can be registered.
// Before all that line ends are made CRLF, and the line that a mailbox file puts
// before a message is taken off.
//
// What is refused: FROM_NOT_OWNED are addresses below a public suffix of the
// private part of the list (iki.fi), which no organisation can register;
// FORWARDED_MAIL has Resent fields; HEADER_SYNTAX has From fields of eight bits or
// lines that are no fields; LINE_TOO_LONG is over 998 octets; FROM_NOT_SINGLE
// names two addresses.
//
// The same is done with every message that other programs keep for their tests of
// MIME, of signatures and seals, of bounces and of reports, by DATA and by BDAT, as
// it is and, if that is refused, with an honest author; testdata/suites.golden says
// what becomes of each: name, outcome as it is, outcome with an honest author.
// What such a message is refused for besides: ATTRIBUTION_AMBIGUOUS, where it is
// real mail of another tenant with that tenant's stamps; BARE_NEWLINE, where a line
// ends in a lone CR, or octets are NUL.
package corpus
