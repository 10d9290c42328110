// Package inbound judges mail for an organisation, and makes the warrant to hand
// it to the organisation's own server.
//
//	Question ─► Checker.Verify: SPF, DKIM, ARC, DMARC, once each ─► Results
//	Question, Results, what else was found ─► Judge ─► Verdict: admit, hold, refuse ─► Admit ─► custody.Inbound
//
// Verify looks up, Judge and all else is pure. The rules of Judge, in order:
//
//  1. A domain of any organisation here is protected, whatever its DMARC policy:
//     mail from outside that has it in From must be DMARC-pass, and in MAIL FROM
//     must have been authorised by it. What this relay proved is not from outside.
//  2. A report about mail that was not sent from here is refused where the
//     organisation takes reports about its own mail only.
//  3. The DMARC policy of the From domain is enforced or observed, as the
//     organisation says. A chain of ARC seals by a sealer that the operator trusts
//     may speak for what forwarding broke; nothing else does.
//  4. A suspected echo is marked, held or refused, as the organisation says.
//
// What could not be looked up and would decide is put off, not guessed. Nothing
// here is ever signed.
package inbound
