package acceptance

import (
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/mail"
)

// probing begins a probe of a source and sends it a message; the probe is told as it
// stands once all is known.
func (r *relay) probing(t *testing.T, organisation, source string, l letter) (api.Probe, reply) {
	t.Helper()
	p, err := r.api.BeginProbe(t.Context(), organisation, source)
	if err != nil {
		t.Fatal(err)
	}
	l.to = []string{p.Address}
	_, answer := r.send(t, l)
	eventually(t, "the probe", func() bool {
		if p, err = r.api.Probe(t.Context(), p.Token); err != nil {
			t.Fatal(err)
		}
		return p.Complete || len(p.Refused) > 0
	})
	return p, answer
}

// Every kind of source is proven from end to end, and nobody else could be it.
func TestAProbeProvesASourceOfEveryKind(t *testing.T) {
	r := newRelay(t, registry(), nil)
	for _, tt := range []struct {
		organisation, source string
		letter               letter
		proofs               string
	}{
		{"acme", "m365", mailFromMicrosoft(acme, "ann@acme.test"), "tenant"},
		{"acme", "gateway", mailWithCertificate("gateway", "ann@acme.test"), "certificate"},
		{"acme", "printer", mailFromAddress(printer, "printer@acme.test"), "address"},
		{"wonka", "workspace", mailFromGoogle(wonka, "willy@wonka.test"), "dkim"},
	} {
		t.Run(tt.organisation+"/"+tt.source, func(t *testing.T) {
			p, answer := r.probing(t, tt.organisation, tt.source, tt.letter)
			if answer.code != 250 || !p.Proven() {
				t.Fatalf("answered %s; the probe is %+v", answer, p)
			}
			if got := strings.Join(p.Taken[0].Proofs, " "); !strings.Contains(got, tt.proofs) {
				t.Errorf("proven by %q", got)
			}
			if a := p.Arrivals[0]; a.DMARC != "pass" && a.DMARC != "none" || len(a.Signatures) == 0 {
				t.Errorf("it arrived as %+v", a)
			}
			if len(p.Spoofs) < 8 {
				t.Errorf("only %d spoofs were tried", len(p.Spoofs))
			}
			for _, s := range p.Spoofs {
				if !s.Refused || s.Reason == "" {
					t.Errorf("%s: %+v", s.Way, s)
				}
			}
		})
	}
	if got := r.receiver.Judgements(); len(got) != 0 {
		t.Errorf("%d messages left", len(got))
	}
}

// A probe that is refused says why, and one that comes by another source is none of
// the source's.
func TestAProbeThatIsNotTheSourcesSaysSo(t *testing.T) {
	r := newRelay(t, registry(), nil)
	p, answer := r.probing(t, "acme", "m365", mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test"))
	if answer.reason != mail.ReasonTenantNotAuthorized || len(p.Refused) != 1 || p.Refused[0].Reason != mail.ReasonTenantNotAuthorized {
		t.Errorf("a stranger's was answered %s; the probe is %+v", answer, p.Refused)
	}
	p, _ = r.probing(t, "acme", "m365", mailFromAddress(printer, "printer@acme.test"))
	if p.Proven() || p.Taken[0].Source != "printer" {
		t.Errorf("another source's counts: %+v", p.Taken)
	}
	if p, _ = r.probing(t, "globex", "m365", mailFromMicrosoft(acme, "ann@acme.test")); p.Proven() {
		t.Error("another organisation's counts")
	}
}

// A recipient in the form of a probe that is none is unknown to who may send, and
// tells a stranger nothing. Other mail for the relay's own name goes where it went
// before a probe was under way.
func TestProbesOpenNothing(t *testing.T) {
	r := newRelay(t, registry(), nil)
	const none = "probe-aaaaaaaaaaaa@relay.anechoic.test"
	own := mailFromAddress(printer, "printer@acme.test")
	own.to = []string{none}
	if _, answer := r.send(t, own); answer.reason != mail.ReasonRecipientUnknown || answer.code != 550 {
		t.Errorf("a probe that is none: %s", answer)
	}
	foreign := mailFromNobody(vps, "ann@acme.test")
	foreign.to = []string{none}
	_, unknown := r.send(t, foreign)
	p, err := r.api.BeginProbe(t.Context(), "acme", "printer")
	if err != nil {
		t.Fatal(err)
	}
	foreign.to = []string{p.Address}
	if _, known := r.send(t, foreign); known.reason != unknown.reason || known.code != unknown.code {
		t.Errorf("a stranger can tell %s from %s", known, unknown)
	}
	if _, err := r.api.BeginProbe(t.Context(), "acme", "none"); err == nil {
		t.Error("a source that is none can be probed")
	}

	// A second recipient at the relay's own name is not the probe's.
	own.to = []string{p.Address, "postmaster@relay.anechoic.test"}
	_, answer := r.send(t, own)
	id := acceptedID(answer)
	eventually(t, "both recipients are settled", func() bool {
		q, err := r.api.Probe(t.Context(), p.Token)
		return err == nil && q.Complete
	})
	eventually(t, "the other recipient failed", func() bool {
		for _, f := range r.facts(t, nil)[id] {
			if f.Event == "bounced" || f.Event == "deferred" {
				return strings.Contains(strings.Join(f.Rcpt, " ")+f.Reply, "postmaster") || f.Reply != ""
			}
		}
		return false
	})
}

// Probes are bounded in number and in time.
func TestProbesAreBounded(t *testing.T) {
	r := newRelay(t, registry(), nil)
	made := 0
	for range 200 {
		p, err := r.api.BeginProbe(t.Context(), "acme", "printer")
		if err != nil {
			break
		}
		if left := time.Until(p.Expires); left > time.Hour {
			t.Fatalf("a probe lasts %s", left)
		}
		made++
	}
	if made == 0 || made > 100 {
		t.Errorf("%d probes at a time", made)
	}
}
