package acceptance

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
)

// The invariants of attribution and policy, over evidence and configuration: no
// evidence, no proof; evidence of one organisation never proves another; foreign
// evidence never helps; revocation is never survived. What counts as evidence of
// an organisation is said here again, by the rules and not by the program.

// message is a message from an address, in every field.
func message(from string) *policy.Message {
	a, err := mail.ParseAddress(from)
	if err != nil {
		panic(err)
	}
	return &policy.Message{MailFrom: a, Originators: mail.Originators{From: mail.Mailbox{Address: a}}}
}

func stands(*org.Domain, mail.Domain) org.Standing { return org.Verified }

func everybody() []player { return append(slices.Clone(players), stranger) }

func TestNoProofWithoutEvidence(t *testing.T) {
	proofs, forwarded, refusals := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		for range pieces {
			ev := evidenceOf(everybody()).Draw(t, "evidence")
			proof, refusal := attribution.Attribute(w.dir, &ev, noon)
			if proof.IsZero() == (refusal == nil) {
				t.Fatalf("proof %+v and refusal %v", proof, refusal)
			}
			if refusal != nil {
				refusals++
				continue
			}
			proofs++
			i := slices.IndexFunc(players, func(p player) bool { return p.id == proof.Organisation() })
			if i < 0 || !enough(w, players[i], ev) {
				t.Fatalf("%q is proven without evidence: %+v", proof.Organisation(), ev)
			}
			if contradicted(w, players[i], ev) {
				t.Fatalf("%q is proven although evidence contradicts: %+v", proof.Organisation(), ev)
			}
			if proof.Tenant() != "" && (ev.Header.Looped || ev.Header.Resent) && proof.Origin() != attribution.Forwarded {
				t.Fatalf("forwarded mail counts as %s: %+v", proof.Origin(), ev)
			}
			if proof.Origin() == attribution.Forwarded {
				forwarded++
				mayNotBeSent(t, w, proof, players[i])
			}
		}
	})
	if proofs < 100 || forwarded < 20 || refusals < 100 {
		t.Errorf("%d proofs, %d of them forwarded, and %d refusals: the test shows nothing", proofs, forwarded, refusals)
	}
}

// mayNotBeSent: a proof of who forwarded a message is no right to send it, as
// whomever it is from.
func mayNotBeSent(t *rapid.T, w world, proof attribution.Proof, p player) {
	for _, from := range []string{p.domain, p.provider, stranger.domain} {
		warrant, refusal := policy.Permit(w.dir, proof, message("ann@"+from), stands)
		if refusal == nil || !warrant.IsZero() {
			t.Fatalf("forwarded mail from %s is permitted: %+v", from, proof)
		}
	}
	for _, from := range []string{p.domain, p.provider, "below." + p.domain} {
		if warrant, refusal := policy.Disown(w.dir, proof, message("ann@"+from), policy.Vouched); refusal == nil || !warrant.IsZero() {
			t.Fatalf("forwarded mail from %s, which is registered, is passed on: %+v", from, proof)
		}
	}
	if policy.Detains(w.dir, proof, message("ann@"+p.domain).Originators) {
		t.Fatalf("forwarded mail from %s, which is registered, is detained", p.domain)
	}
}

// TestEvidenceOfOneNeverProvesAnother: whatever somebody shows who has all that
// the first has, and all that strangers have, the second is not proven; and what
// is proven may not speak as the second.
func TestEvidenceOfOneNeverProvesAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		i := rapid.IntRange(0, 1).Draw(t, "who")
		mine, other := players[i], players[1-i]
		for range pieces {
			ev := evidenceOf([]player{mine, mine, stranger}).Draw(t, "evidence")
			ev.From = domain(rapid.SampledFrom(everybody()).Draw(t, "claimed").domain)
			if rapid.Bool().Draw(t, "claimed originator") { // a tenant may name any accepted domain that it has
				ev.Header.Originator.Value = other.originer
			}
			proof, refusal := attribution.Attribute(w.dir, &ev, noon)
			if refusal != nil {
				continue
			}
			if proof.Organisation() != mine.id {
				t.Fatalf("%s is proven by evidence of %s: %+v", proof.Organisation(), mine.id, ev)
			}
			speaksOnlyAs(t, w, proof, mine, other)
		}
	})
}

// speaksOnlyAs: a proof of mine does not permit an address of anybody else, in
// any place that says who speaks.
func speaksOnlyAs(t *rapid.T, w world, proof attribution.Proof, mine, other player) {
	for _, from := range []string{"ceo@" + other.domain, "ceo@" + other.provider, "ceo@sub." + mine.domain, "ceo@" + stranger.domain} {
		foreign := message(from).MailFrom
		m := message("ann@" + mine.domain)
		switch rapid.SampledFrom([]string{"From", "MAIL FROM", "Sender", "Resent-From", "Resent-Sender"}).Draw(t, "place") {
		case "From":
			m.Originators.From.Address = foreign
		case "MAIL FROM":
			m.MailFrom = foreign
		case "Sender":
			m.Originators.Sender = []mail.Address{foreign}
		case "Resent-From":
			m.Originators.ResentFrom = []mail.Address{m.MailFrom, foreign}
		case "Resent-Sender":
			m.Originators.ResentSender = []mail.Address{foreign}
		}
		if warrant, refusal := policy.Permit(w.dir, proof, m, stands); refusal == nil || !warrant.IsZero() {
			t.Fatalf("%s may send %+v", mine.id, m)
		}
	}
}

// TestForeignEvidenceNeverHelps: what does not prove an organisation does not
// prove it with more evidence of others either.
func TestForeignEvidenceNeverHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		i := rapid.IntRange(0, 1).Draw(t, "who")
		mine := players[i]
		for range pieces {
			ev := evidenceOf(everybody()).Draw(t, "evidence")
			before, _ := attribution.Attribute(w.dir, &ev, noon)
			foreign := rapid.SampledFrom([]player{players[1-i], stranger}).Draw(t, "foreign")
			addEvidence(t, &ev, foreign)
			after, _ := attribution.Attribute(w.dir, &ev, noon)
			if after.Organisation() == mine.id && before.Organisation() != mine.id {
				t.Fatalf("%s is proven by more of %s: %+v", mine.id, foreign.id, ev)
			}
		}
	})
}

// addEvidence adds one piece of a player's to what is there.
func addEvidence(t *rapid.T, ev *attribution.Evidence, p player) {
	stamp := func(s *attribution.Stamp, value string) { // the first one's value stays
		if s.Count++; s.Count == 1 {
			s.Value = value
		}
	}
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 5:
		if !ev.ClientKey.Present {
			ev.ClientKey = keyOf(p)
		}
	case 6:
		ev.Header.Secrets = append(ev.Header.Secrets, googleSecretOf(p, true))
	case 7:
		ev.Signatures = append(ev.Signatures, googleSignatureOf(p))
	case 0:
		ev.Header.Secrets = append(ev.Header.Secrets, secretOf(p, true))
	case 1:
		ev.Signatures = append(ev.Signatures, signatureOf(p, rapid.Bool().Draw(t, "by provider domain")))
	case 2:
		if ev.Username == "" {
			ev.Username = p.username
		}
	case 3:
		stamp(&ev.Header.TenantID, p.tenant)
	case 4:
		stamp(&ev.Header.Originator, p.originer)
	}
}

// TestRevocationIsNeverSurvived: a proof of before, a Directory of now without
// what it rested on.
func TestRevocationIsNeverSurvived(t *testing.T) {
	permitted := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		mine := rapid.SampledFrom(players).Draw(t, "who")
		entry := mine.entry(w.setups[mine.id])
		for range pieces / 4 {
			ev := evidenceOf([]player{mine}).Draw(t, "evidence")
			proof, refusal := attribution.Attribute(w.dir, &ev, noon)
			if refusal != nil || proof.Origin() == attribution.Forwarded {
				continue
			}
			m := message("ann@" + mine.domain)
			if warrant, refusal := policy.Permit(w.dir, proof, m, stands); refusal != nil || warrant.SignAs() != domain(mine.domain) {
				t.Fatalf("it is not permitted before: %v", refusal)
			}
			name := rapid.SampledFrom(revocationNames).Draw(t, "revocation")
			permitted[name]++
			var entries []org.OrganisationEntry
			if after := revocations[name](entry, proof); after.ID != "" {
				entries = append(entries, after)
			}
			if warrant, refusal := policy.Permit(build(t, 8, entries...), proof, m, stands); refusal == nil || !warrant.IsZero() {
				t.Fatalf("it is still permitted: %+v", warrant)
			}
		}
	})
	for _, name := range revocationNames {
		if permitted[name] < 10 {
			t.Errorf("%q was tried %d times: the test shows nothing", name, permitted[name])
		}
	}
}

// revocations take away what a proof rested on.
var revocations = map[string]func(org.OrganisationEntry, attribution.Proof) org.OrganisationEntry{
	"the organisation": func(org.OrganisationEntry, attribution.Proof) org.OrganisationEntry { return org.OrganisationEntry{} },
	"the domain": func(e org.OrganisationEntry, _ attribution.Proof) org.OrganisationEntry {
		e.Domains, e.Sources = []org.DomainEntry{{Name: "renamed.test"}}, slices.Clone(e.Sources)
		for i := range e.Sources {
			if e.Sources[i].From != nil {
				e.Sources[i].From = []string{"*@renamed.test"}
			}
			if e.Sources[i].DKIM != nil {
				e.Sources[i].DKIM = []org.IdentityEntry{{Domain: "renamed.test", Selectors: []string{"google"}}}
			}
		}
		return e
	},
	"the source": func(e org.OrganisationEntry, p attribution.Proof) org.OrganisationEntry {
		e.Sources = slices.DeleteFunc(slices.Clone(e.Sources), func(s org.SourceEntry) bool { return s.ID == p.Source() })
		return e
	},
	"what names the source": func(e org.OrganisationEntry, p attribution.Proof) org.OrganisationEntry {
		e.Sources = slices.Clone(e.Sources)
		for i := range e.Sources {
			s := &e.Sources[i]
			if s.ID != p.Source() {
				continue
			}
			switch s.Kind {
			case "microsoft365":
				s.TenantIDs = []string{"99999999-9999-4999-8999-999999999999"}
			case "credential":
				s.Username = "renamed"
			case "certificate":
				s.SPKI = []string{spki("device")}
			case "address":
				s.Addresses = []string{"203.0.113.99/32"}
			case "google":
				s.DKIM = []org.IdentityEntry{{Domain: e.Domains[0].Name, Selectors: []string{"renamed"}}}
			}
		}
		return e
	},
	"its second proof": func(e org.OrganisationEntry, p attribution.Proof) org.OrganisationEntry {
		if p.Methods()&(attribution.BySecretHeader|attribution.ByDKIM) == 0 {
			return org.OrganisationEntry{} // there was none: the organisation goes
		}
		e.Sources = slices.Clone(e.Sources)
		for i := range e.Sources {
			if s := &e.Sources[i]; s.ID == p.Source() {
				s.RequireDKIM = false
				s.SecretHeader = &org.SecretHeaderEntry{Name: "X-Another-Relay-Key", SHA256: []string{digest(replacement)}}
			}
		}
		return e
	},
	"what it may send as": func(e org.OrganisationEntry, p attribution.Proof) org.OrganisationEntry {
		e.Sources = slices.Clone(e.Sources)
		for i := range e.Sources {
			if e.Sources[i].ID == p.Source() {
				e.Sources[i].From = []string{"other@" + e.Domains[0].Name}
			}
		}
		return e
	},
}

var revocationNames = []string{"the organisation", "the domain", "the source", "what names the source", "its second proof", "what it may send as"}

// TestDomainThatDoesNotStandIsNeverSentFrom: only Verified lets mail pass.
func TestDomainThatDoesNotStandIsNeverSentFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		mine := rapid.SampledFrom(players).Draw(t, "who")
		ev := rightEvidence(mine, rapid.SampledFrom(ways).Draw(t, "way"))
		proof, refusal := attribution.Attribute(w.dir, &ev, noon)
		if refusal != nil {
			return
		}
		standing := org.Standing(rapid.SampledFrom([]int{int(org.Unknown), int(org.Unverified), int(org.LookupFailed), 17}).Draw(t, "standing"))
		_, refusal = policy.Permit(w.dir, proof, message("ann@"+mine.domain), func(*org.Domain, mail.Domain) org.Standing { return standing })
		if refusal == nil || refusal.Temporary() == (standing == org.Unverified) {
			t.Fatalf("%s: %v", standing, refusal)
		}
	})
}

// TestWarrantsSignAsTheOwnerOfFrom: a warrant signs as the registered domain of
// its own organisation that covers From, or not at all.
func TestWarrantsSignAsTheOwnerOfFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		ev := rightEvidence(rapid.SampledFrom(players).Draw(t, "sender"), rapid.SampledFrom(ways).Draw(t, "way"))
		proof, refusal := attribution.Attribute(w.dir, &ev, noon)
		if refusal != nil {
			return
		}
		who := rapid.SampledFrom(everybody()).Draw(t, "From")
		from := rapid.SampledFrom([]string{who.domain, who.provider, "sub." + who.domain}).Draw(t, "domain")
		warrant, refusal := policy.Permit(w.dir, proof, message("x@"+from), stands)
		if refusal != nil {
			if warrant != *new(custody.Proven) {
				t.Fatal("a refusal with a warrant")
			}
			return
		}
		if warrant.Organisation() != who.id || warrant.Organisation() != proof.Organisation() {
			t.Fatalf("%s sends as %s", proof.Organisation(), from)
		}
		if want := map[string]string{who.domain: who.domain, who.provider: ""}[from]; warrant.SignAs().String() != want {
			t.Fatalf("From %s is signed as %q", from, warrant.SignAs())
		}
	})
}
