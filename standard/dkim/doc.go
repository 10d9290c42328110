// Package dkim signs messages and checks their signatures: DomainKeys
// Identified Mail (RFC 6376) with the algorithms of RFC 8301 and RFC 8463.
//
// A message goes through three steps:
//
//  1. A BodyHasher takes the body while its bytes arrive and ends in
//     BodyHashes. It computes the relaxed form always, the simple form only if a
//     signature in the header asks for it. The body is never read again.
//  2. Verify judges every DKIM-Signature field of the header: one Result each,
//     in the order of the header, with the precise reason where it is no pass.
//  3. Sign makes one DKIM-Signature field for each Signer.
//
// What is promised: a Pass means that the owner of Result.Domain published the
// key that signed this body, whole, and every From field. So a signature with a
// body length (l=), a historic algorithm, an RSA key below 1024 bits or a From
// field outside it never passes. What Sign writes is over-signed: a field that
// must be there once, or not at all, cannot be added later without breaking the
// signature.
//
// What it is not for: a Pass names a domain. Whether that domain may speak for
// the message (alignment, the tenant behind it, replay) is decided elsewhere.
//
// The parts that ARC shares (RFC 8617) are exported: BodyHasher, whose hashes
// serve both, ParseTags, ParseMessageSignature and ParseSeal, AppendField,
// AppendUnsigned, Index, Signature.Acceptable, BodyHashes.Check, LookUpKeys,
// FieldsToSign, TagWriter, Signer.Complete and Signer.SignDigest.
package dkim
