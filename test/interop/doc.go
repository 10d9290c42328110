// Package interop lets other people's programs deliver through the running relay
// and receive from it: swaks, Python's smtplib and Postfix as clients with a
// credential, Postfix as the next hop, also behind rspamd; Exim and OpenSMTPD as
// both, unpacked into trees of their own because they cannot be installed beside
// Postfix ($ANECHOIC_PEERS). What arrives is given to independent DKIM
// verifiers: python3-dkim, Perl's Mail::DKIM and OpenDKIM.
//
// Programs that are not installed are left out, with a message how to have them;
// with ANECHOIC_REQUIRE_PEERS=1 that is a failure. Postfix is run from a
// configuration of the test in a temporary folder, on loopback; it must be started
// by root.
package interop
