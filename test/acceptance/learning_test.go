package acceptance

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"anechoic/control/api"
	"anechoic/engine/memory"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
)

// learning is the registry of the matrix in which organisations are still learning.
func learning(organisations ...string) string {
	text := registry()
	for _, id := range organisations {
		text = strings.Replace(text, "[[organisation]]\nid = \""+id+"\"\n", "[[organisation]]\nid = \""+id+"\"\nlearning = true\n", 1)
	}
	return text
}

// unlisted takes umbrella's tenant, its only source, out of a registry.
func unlisted(registry string) string {
	before, rest, _ := strings.Cut(registry, "[[organisation.source]]\nid = \"m365\"\nkind = \"microsoft365\"\ntenant_ids = [\""+umbrella.GUID+"\"]")
	_, after, _ := strings.Cut(rest, "\n[[organisation]]")
	return before + "[[organisation]]" + after
}

// learnAndHold is row A56.
func learnAndHold() []variant {
	return []variant{
		does("an attacker's mail is held by every route, and no release sends it", learningHoldsAnAttack),
		does("mail of a tenant that is listed afterwards is released and signed, the attacker's beside it is not", learningEndsWithAProof),
		does("mail of its own source that may not send so is released once it may", learningBySourcesOfItsOwn),
		does("what no entry could prove is refused as ever", learningKeepsRefusing),
		does("a domain that DNS does not prove learns nothing", learningNeedsItsDomain),
		does("when it has learned, it is refused again, and what is held still needs a proof", learningEnds),
	}
}

func learningHoldsAnAttack(t *testing.T, _ *relay) {
	r := newRelay(t, learning("acme"), nil)
	ceo := "The CEO <ceo@acme.test>"
	letters := map[string]letter{
		"blind relay":                  mailThrough(attacker, lab.BlindRelay, vps, ceo),
		"a mailbox of the attacker's":  mailThrough(attacker, lab.Cloud, vps, ceo),
		"auto-forwarded":               mailThrough(attacker, lab.Forward, vps, ceo),
		"the null sender":              mailThrough(attacker, lab.BlindRelay, vps, ceo).sender(""),
		"no stamps at all":             mailFromNobody(eop, ceo),
		"acme's tenant, no secret":     mailFromMicrosoft(acme, "Ann <ann@acme.test>").headless(acme.SecretName),
		"with acme's leaked secret":    mailThrough(attacker, lab.BlindRelay, vps, ceo).topped(acme.SecretName + ": " + acmeSecret),
		"a Workspace that is nobody's": mailFromNobody(gmail, ceo),
	}
	held := map[mail.ID]string{}
	for name, l := range letters {
		held[r.detain(t, l)] = name
	}
	r.restart(t)
	facts := r.facts(t, url.Values{})
	for id, name := range held {
		told := facts[id]
		if len(told) != 2 || told[0].Event != ledger.WouldRefuse || told[1].Event != ledger.Held || told[0].Reason == mail.ReasonHeld || !strings.HasPrefix(told[0].Reply, "550 ") {
			t.Errorf("%s: the ledger has %+v", name, told)
			continue
		}
		for _, f := range told {
			if f.Identity != ledger.Unproven || f.Disposition != ledger.DispositionHeld || f.Org != "" && f.Source == "" || f.ClaimedOrg != "acme" {
				t.Errorf("%s: the fact is %+v", name, f)
			}
		}
	}
	for range 2 {
		if got := r.judge(t, api.Release, api.DetainedSelection{All: true}); got.Done != 0 || got.Stay != len(letters) {
			t.Errorf("released: %+v", got)
		}
	}
	if got := r.judge(t, api.Release, api.DetainedSelection{Reason: mail.ReasonTenantNotAuthorized, DryRun: true}); got.Stay == 0 || got.Messages[0].Reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("rehearsed: %+v", got)
	}
	if q := r.status(t).Queue; q.Messages != 0 {
		t.Errorf("the queue has %+v", q)
	}
	r.stop(t)
	if got := r.receiver.Judgements(); len(got) != 0 {
		t.Errorf("something arrived: %+v", got)
	}
}

func learningEndsWithAProof(t *testing.T, _ *relay) {
	r := newRelay(t, unlisted(learning("umbrella")), nil)
	own := mailFromMicrosoft(umbrella, "ann@umbrella.test")
	mine := r.detain(t, own)
	foreign := r.detain(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@umbrella.test"))
	forwarded := r.detain(t, mailThrough(umbrella, lab.Forward, vps, "ceo@umbrella.test"))
	if got := r.judge(t, api.Release, api.DetainedSelection{All: true}); got.Done != 0 || got.Stay != 3 {
		t.Fatalf("released without a proof: %+v", got)
	}
	r.writeRegistry(t, learning("umbrella"))
	r.reload(t)
	got := r.judge(t, api.Release, api.DetainedSelection{Org: "umbrella"})
	if got.Done != 1 || got.Stay != 2 {
		t.Fatalf("released: %+v", got)
	}
	for _, m := range got.Messages {
		want := map[mail.ID]mail.Reason{mine: "", foreign: mail.ReasonTenantNotAuthorized, forwarded: mail.ReasonForwardedMail}[m.ID]
		if m.Reason != want {
			t.Errorf("%s: %+v, want %q", m.ID, m, want)
		}
	}
	j := r.await(t, messageID(own.data))
	if !j.Aligned || len(j.SignedBy) != 1 || j.SignedBy[0].String() != "umbrella.test" || len(j.Leaked) > 0 {
		t.Errorf("it arrived as %+v", j)
	}
	if rest := r.detained(t, nil); len(rest) != 2 || slices.Contains(rest, mine) {
		t.Errorf("detained are %v", rest)
	}
}

func learningBySourcesOfItsOwn(t *testing.T, _ *relay) {
	r := newRelay(t, learning("acme"), nil)
	l := mailFromUser("billing@acme", "ann@acme.test").peerIs(office)
	id := r.detain(t, l)
	message, err := r.api.Detained(t.Context(), id)
	if err != nil || message.Source != "billing" || message.Claimed || message.Release.Reason != mail.ReasonSourceNotAllowed {
		t.Fatalf("it is %+v, %v", message, err)
	}
	if got := r.judge(t, api.Release, api.DetainedSelection{All: true}); got.Done != 0 {
		t.Fatalf("released: %+v", got)
	}
	r.writeRegistry(t, strings.Replace(learning("acme"), `"noreply@acme.test"`, `"noreply@acme.test", "ann@acme.test"`, 1))
	r.reload(t)
	if got := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); got.Done != 1 {
		t.Fatalf("released: %+v", got)
	}
	if j := r.await(t, messageID(l.data)); !j.Aligned || len(j.SignedBy) != 2 {
		t.Errorf("it arrived as %+v", j)
	}
}

func learningKeepsRefusing(t *testing.T, _ *relay) {
	r := newRelay(t, learning("acme"), nil)
	for name, c := range map[string]struct {
		letter letter
		reason mail.Reason
	}{
		"forwarded by its own tenant":            {forwardedBy("ceo@acme.test"), mail.ReasonForwardedMail},
		"the tenant of acme, another originator": {mailFromMicrosoft(acme, "ann@acme.test").edited("X-OriginatorOrg: acme.test", "X-OriginatorOrg: evil123.onmicrosoft.com"), mail.ReasonAttributionConflict},
		"two stamps":                             {mailFromMicrosoft(acme, "ann@acme.test").topped("X-OriginatorOrg: acme.test"), mail.ReasonAttributionAmbig},
		"a peer without the provider's name":     {mailFromMicrosoft(acme, "ann@acme.test").peerIs(eopNoPTR), mail.ReasonPeerNotEOP},
		"another customer's user":                {mailFromUser("app@globex", "ceo@acme.test"), mail.ReasonFromNotOwned},
		"another customer's tenant":              {microsoftSigned(globex, "globex.test", "ceo@acme.test"), mail.ReasonSecondProofMissing},
		"another customer's tenant, unsigned":    {mailFromMicrosoft(globex, "ceo@acme.test"), mail.ReasonSecondProofMissing},
		"From of one that is not learning":       {mailThrough(attacker, lab.BlindRelay, vps, "ceo@globex.test"), mail.ReasonTenantNotAuthorized},
		"From of nobody":                         {mailThrough(attacker, lab.BlindRelay, vps, "x@elsewhere.test"), mail.ReasonTenantNotAuthorized},
		"a stranger's address":                   {mailFromNobody(vps, "ceo@acme.test"), mail.ReasonRelayDenied},
		"the pool nobody vouches for":            {mailFromMicrosoft(acme, "ann@acme.test").peerIs(pool), mail.ReasonRelayPool},
	} {
		if _, answer := r.send(t, c.letter); answer.code != 550 || answer.reason != c.reason {
			t.Errorf("%s: it was answered %s, want %s", name, answer, c.reason)
		}
	}
	if got := r.detained(t, nil); len(got) != 0 {
		t.Errorf("detained are %v", got)
	}
}

func learningNeedsItsDomain(t *testing.T, _ *relay) {
	r := newRelay(t, learning("acme"), func(i *lab.Internet) { i.Zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=globex") })
	_, answer := r.send(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test"))
	if answer.code != 550 || answer.reason != mail.ReasonTenantNotAuthorized || len(r.detained(t, nil)) > 0 {
		t.Errorf("it was answered %s, detained are %v", answer, r.detained(t, nil))
	}
}

func learningEnds(t *testing.T, _ *relay) {
	r := newRelay(t, learning("acme"), nil)
	spoof := mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test")
	id := r.detain(t, spoof)
	if found := r.status(t).Findings; !slices.ContainsFunc(found, func(f api.Finding) bool { return strings.Contains(f.Text, "still learning") }) {
		t.Errorf("it is no finding: %+v", found)
	}
	r.writeRegistry(t, registry())
	r.reload(t)
	if _, answer := r.send(t, spoof); answer.code != 550 || answer.reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("it was answered %s", answer)
	}
	if got := r.judge(t, api.Release, api.DetainedSelection{IDs: []mail.ID{id}}); got.Done != 0 || got.Messages[0].Reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("released: %+v", got)
	}
}

// TestWhatIsHeldLeavesByAProofOfItsOrganisationAlone: whatever evidence is detained
// because an organisation is learning, a release in any later world gives a warrant
// only if that world proves it to be the organisation's, and custody takes no other.
func TestWhatIsHeldLeavesByAProofOfItsOrganisationAlone(t *testing.T) {
	queue, err := custody.OpenQueue(t.Context(), memory.New(), custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	held, released := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w, later := worlds().Draw(t, "world"), worlds().Draw(t, "later")
		for range pieces {
			ev := evidenceOf(everybody()).Draw(t, "evidence")
			p := rapid.SampledFrom(players).Draw(t, "claimed")
			m := message("ceo@" + p.domain)
			ev.From = domain(p.domain)
			refusal := permitted(w, ev, m)
			if refusal == nil {
				continue
			}
			learned, ok := policy.Learns(w.dir, &ev, m.Originators, refusal, stands)
			if !ok {
				continue
			}
			held++
			if learned.Organisation != p.id || !w.setups[p.id].learning {
				t.Fatalf("mail from %s is held for %s: %+v", p.domain, learned.Organisation, ev)
			}
			if permitted(w, ev, m) == nil {
				t.Fatalf("what was refused is permitted when asked again: %+v", ev)
			}
			if permitted(later, ev, m) == nil {
				released++
				if !enough(later, p, ev) {
					t.Fatalf("%s is released without a proof: %+v", p.id, ev)
				}
			}
			nothingElseReleases(t, queue, ev, m, learned)
		}
	})
	if held < 100 || released < 10 {
		t.Errorf("%d held, %d of them released later: the test shows nothing", held, released)
	}
}

// permitted asks attribution and policy, as a release does.
func permitted(w world, ev attribution.Evidence, m *policy.Message) *mail.Refusal {
	proof, refusal := attribution.Attribute(w.dir, &ev, noon)
	if refusal == nil {
		_, refusal = policy.Permit(w.dir, proof, m, stands)
	}
	return refusal
}

// nothingElseReleases: no warrant but a Proven one of the organisation ends a
// detention.
func nothingElseReleases(t *rapid.T, queue *custody.Queue, ev attribution.Evidence, m *policy.Message, learned policy.Learned) {
	id := mail.NewID(noon)
	envelope := mail.Envelope{From: m.MailFrom, Recipients: []mail.Recipient{{Address: m.MailFrom}}}
	_, err := queue.Detain(context.Background(), custody.Detention{
		ID: id, Organisation: learned.Organisation, Source: learned.Source, Claimed: learned.Source == "", Reason: mail.ReasonTenantNotAuthorized, Evidence: ev,
		From: m.MailFrom, Envelope: envelope, Body: mail.NewBody([]byte("x\r\n")),
	}, noon)
	if err != nil {
		t.Fatal(err)
	}
	notice, err := custody.NewNotice(id, learned.Organisation)
	if err != nil {
		t.Fatal(err)
	}
	inbound, err := custody.NewInbound(learned.Organisation, custody.Verdicts{DMARC: "pass"})
	if err != nil {
		t.Fatal(err)
	}
	var zero custody.Proven
	for _, warrant := range []custody.Warrant{notice, inbound, zero, nil} {
		if _, err := queue.ReleaseDetained(context.Background(), custody.Submission{ID: id, Warrant: warrant, Envelope: envelope, Body: mail.NewBody([]byte("x\r\n"))}, "", noon); err == nil {
			t.Fatalf("a %T released it", warrant)
		}
	}
	if d := queue.Depth(); d.Messages != 0 {
		t.Fatalf("the queue has %+v", d)
	}
	if err := queue.DropDetained(context.Background(), id, "", noon); err != nil {
		t.Fatal(err)
	}
}

func TestAReleaseOfManyNeedsTwoPeopleAndEachMessageAProof(t *testing.T) {
	r := newRelay(t, unlisted(learning("umbrella")), nil)
	own := []letter{mailFromMicrosoft(umbrella, "ann@umbrella.test"), mailFromMicrosoft(umbrella, "bob@umbrella.test")}
	for _, l := range own {
		r.detain(t, l)
	}
	spoof := r.detain(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@umbrella.test"))
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", string(text)+"[quarantine]\nsecond_person_above = 1\n")
	r.writeRegistry(t, registry())
	r.restart(t)
	asked := r.judge(t, api.Release, api.DetainedSelection{All: true, By: "alice"})
	if asked.Approval == nil || asked.Waiting != 2 || asked.Stay != 1 || asked.Messages[0].ID != spoof || r.status(t).Queue.Messages != 0 {
		t.Fatalf("asked: %+v", asked)
	}
	if _, err := r.api.SteerApproval(t.Context(), api.Approve, asked.Approval.ID, api.ApprovalWish{By: "alice"}); err == nil {
		t.Fatal("who asked approved it")
	}
	r.restart(t)
	r.writeRegistry(t, strings.Replace(registry(), `originator_orgs = ["umbrella.test"]`, `originator_orgs = ["umbrella.test"]`+"\n"+`from = ["ann@umbrella.test"]`, 1))
	r.reload(t)
	done, err := r.api.SteerApproval(t.Context(), api.Approve, asked.Approval.ID, api.ApprovalWish{By: "bob"})
	if err != nil || done.Released.Done != 1 || done.Released.Stay != 1 || done.Released.Messages[1].Reason != mail.ReasonSourceNotAllowed {
		t.Fatalf("approved, what is no longer proven stays: %+v, %v", done.Released, err)
	}
	if j := r.await(t, messageID(own[0].data)); !j.Aligned {
		t.Errorf("it arrived as %+v", j)
	}
	var story []string
	for _, f := range r.facts(t, url.Values{"event": {string(ledger.ApprovalChanged)}}) {
		for _, one := range f {
			story = append(story, one.Detail)
		}
	}
	if len(story) != 2 || !strings.Contains(story[1], "approved by") || !strings.Contains(story[1], "bob") {
		t.Errorf("the ledger says %q", story)
	}
}

func TestTheDigestReachesTheSecurityContactInNobodysName(t *testing.T) {
	r := newRelay(t, learning("acme"), nil)
	r.detain(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test"))
	if page := r.metricsPage(t); !strings.Contains(page, `anechoic_detained_messages{org="acme",reason="TENANT_NOT_AUTHORIZED"} 1`) {
		t.Errorf("the metrics do not count it")
	}
	sent, err := r.api.Digest(t.Context(), api.DigestWish{Org: "acme"})
	if err != nil || sent.To != "security@acme.test" {
		t.Fatalf("sent: %+v, %v", sent, err)
	}
	j := r.await(t, "<"+string(sent.ID)+"@relay.anechoic.test>")
	if len(j.SignedBy) != 0 || j.MailFrom != "" || !strings.Contains(string(j.Data), "From: Mail relay <quarantine@relay.anechoic.test>") ||
		!strings.Contains(string(j.Data), "ceo[at]acme[.]test") || strings.Contains(string(j.Data), "your invoice") {
		t.Errorf("it arrived as %+v:\n%s", j, j.Data)
	}
	if _, err := r.api.Digest(t.Context(), api.DigestWish{Org: "acme"}); err == nil {
		t.Error("the same was told twice")
	}
	if _, err := r.api.Digest(t.Context(), api.DigestWish{Org: "nobody"}); err == nil {
		t.Error("nobody was told")
	}
}
