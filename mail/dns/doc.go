// Package dns looks names up: mail.Resolver over real DNS and over a zone file.
//
// Client asks recursive servers and keeps their answers in a bounded cache.
// Zone holds records in memory, in the JSON form of test zones; it answers as a
// Resolver by itself, and Serve gives it to others over UDP and TCP. Both read
// answers with the same code, so that what is tested on a Zone holds for DNS.
//
// One look-up of the Client:
//
//  1. the name is checked and lower-cased; what cannot be a name in DNS does not
//     exist (mail.ErrNoDomain);
//  2. the cache answers, or a look-up of the same question that is under way;
//  3. each server in turn, twice: UDP with EDNS0, then TCP if the answer was cut;
//     an answer counts only if identifier and question are ours;
//  4. aliases are followed, through the answer and by asking again, up to a bound;
//  5. records are decoded, and what strangers wrote is checked.
//
// The package guarantees that a failure is never taken for the absence of a
// record: NXDOMAIN is mail.ErrNoDomain, an empty answer has no records, all else
// is another error. Host names in answers consist of letters, digits, hyphens and
// underscores; PTR records that do not are dropped, MX and CNAME records too, but
// an error is given if none is left. Texts may hold any octet.
//
// It does not validate DNSSEC. The AD bit is passed on if the configuration says
// that the path to the server is trusted (RFC 6840 section 5.7).
package dns
