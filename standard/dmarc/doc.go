// Package dmarc judges whether the domain of a From field was used with its
// owner's leave, and what the owner asks for where it was not: Domain-based
// Message Authentication, Reporting, and Conformance (RFC 9989).
//
// For one message:
//
//  1. Discover finds the policy record that applies to a From domain, and its
//     organisational domain, in one DNS tree walk of at most eight look-ups
//     (section 4.10). Parse reads a record.
//  2. Evaluate compares the From domains with the domains that SPF and DKIM
//     authenticated (section 4.4) and gives a Result: the status, and the policy
//     that the owner published for such a message.
//
// The Method decides how an organisational domain is found: TreeWalk is the
// standard's way, PublicSuffix that of RFC 7489, by a list of public suffixes.
// All else is RFC 9989 with either: the tags pct=, rf= and ri= mean nothing.
//
// What is promised: a Pass names an identifier that was authenticated and is
// aligned with every From domain. What could not be looked up makes neither a
// Pass nor a Fail where the answer matters. Work is bounded, whatever the DNS
// answers: see MaxQueries, MaxRecord, MaxAuthors and MaxIdentifiers.
//
// What it is not for: it verifies no signature and no address (packages dkim and
// spf do), it sends no reports, and it decides nothing about a message. A Pass
// says that a domain's own servers or keys were used, not that the message is
// wanted.
package dmarc
