package acceptance

import (
	"testing"

	"anechoic/lab"
	"anechoic/mail"
)

// movedVariants: a tenant nobody approved is refused, whatever of the old one's it
// still has, and however often it comes (A21).
func movedVariants() []variant {
	moved := acme
	moved.GUID = "55555555-5555-4555-8555-555555555556"
	renamed := moved
	renamed.Originator = "acme-new.onmicrosoft.com"
	bare := lab.Tenant{GUID: moved.GUID, Originator: "acme.test"}
	return []variant{
		does("approved in the registry, then the old one revoked", tenantMoved),
		no("the new id with the old originator and the right secret", mail.AttributionConflict, mailFromMicrosoft(moved, "ann@acme.test")),
		no("the same by chunks", mail.AttributionConflict, mailFromMicrosoft(moved, "ann@acme.test").inChunks(50)),
		no("with the old originator alone", mail.AttributionConflict, mailFromMicrosoft(bare, "ann@acme.test")),
		no("with a new originator and the right secret", mail.TenantNotAuthorized, mailFromMicrosoft(renamed, "ann@acme.test")),
		no("from the hybrid server that is listed", mail.AttributionConflict, mailThrough(moved, lab.Hybrid, hybrid, "ann@acme.test")),
		no("forwarded", mail.AttributionConflict, mailThrough(moved, lab.Forward, vps, "ann@acme.test")),
		no("both ids, the new one last", mail.AttributionAmbiguous, mailFromMicrosoft(acme, "ann@acme.test").ended("X-MS-Exchange-CrossTenant-Id: "+moved.GUID)),
		does("a hundred times: nothing is learned by itself", func(t *testing.T, r *relay) {
			for range 100 {
				if _, answer := r.send(t, mailFromMicrosoft(moved, "ann@acme.test")); answer.reason != mail.ReasonAttributionConflict {
					t.Fatalf("answered %s", answer)
				}
			}
		}),
	}
}
