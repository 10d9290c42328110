// Package arc validates and extends the Authenticated Received Chain of a message:
// what each handler on its way says it saw, sealed by that handler (RFC 8617).
//
// A chain is made of sets, numbered from 1. Each has three fields:
// ARC-Authentication-Results (what the handler saw), ARC-Message-Signature (the
// message as it left the handler) and ARC-Seal (the handler's signature over its
// own and all older sets). A message goes through two steps:
//
//  1. Validate reads the sets, looks each key up once, judges every signature by
//     itself and concludes with one Chain. Body hashes come from a
//     dkim.BodyHasher, which serves DKIM and ARC in one pass over the body.
//  2. Seal adds a set of our own over a chain that was validated.
//
// What is promised: Status is Pass only if RFC 8617 section 5.2 says so, step by
// step. Nothing that cannot be read, no key that cannot be had and no limit that is
// passed ever leads to Pass.
//
// Three answers are kept apart. Status Pass: the message is the one the last sealer
// passed on, and all sets are genuine. Status Fail with SealStatus Pass: the sets
// are genuine, but the message is not the one that was sealed, either because it was
// changed since or because the sets were cut from another message. Such sets may
// accuse; they never acquit. Both Fail: the chain counts as absent.
//
// What it is not for: a Pass says that the sealers wrote these words. Whether they
// are to be believed is decided elsewhere, from a list of sealers.
package arc
