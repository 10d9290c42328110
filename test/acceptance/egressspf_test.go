package acceptance

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"anechoic/ledger"
	"anechoic/mail"
)

func TestInboundMailAsADomainWhoseSPFListsInboundEgressIsHeldUntilThatEnds(t *testing.T) {
	r, inside := guarded(t)
	config, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", string(config)+"[inbound]\nbind = [\"127.0.0.3\"]\n")
	r.internet.Zone.SetTXT("globex.test", "v=spf1 ip4:127.0.0.3 -all")
	r.restart(t)

	eventually(t, "the domain is a finding", func() bool {
		status, err := r.api.Status(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range status.Findings {
			if f.Organisation == "globex" && strings.Contains(f.Text, "SPF of globex.test passes for 127.0.0.3") {
				return true
			}
		}
		return false
	})
	if page := r.metricsPage(t); !strings.Contains(page, "\nanechoic_egress_in_spf_domains 1\n") {
		t.Error("the metric does not tell of it")
	}

	own := forGlobex(mailFromUser("app@globex", "ann@globex.test"))
	if _, answer := r.send(t, own); answer.code != 250 {
		t.Fatal(answer)
	}
	r.comesIn(t, inside, forGlobex(mailFromNobody(partner, "carol@partner.test"))) // others' mail goes on
	eventually(t, "mail in its name is held", func() bool {
		for _, facts := range r.facts(t, url.Values{"event": {string(ledger.Held)}}) {
			if facts[0].Reason == mail.ReasonEgressInSPF && facts[0].Org == "globex" {
				return true
			}
		}
		return false
	})
	if _, there := inside.Judgement(messageID(own.data)); there {
		t.Error("it was handed on")
	}

	r.internet.Zone.SetTXT("globex.test", "v=spf1 ip4:127.0.0.1 -all")
	r.reload(t)
	eventually(t, "it goes on by itself", func() bool { _, there := inside.Judgement(messageID(own.data)); return there })
	for event, want := range map[ledger.Event]int{ledger.EgressListed: 1, ledger.EgressUnlisted: 1} {
		n := 0
		for _, facts := range r.facts(t, url.Values{"event": {string(event)}}) {
			n += len(facts)
		}
		if n != want {
			t.Errorf("%d facts of %s", n, event)
		}
	}
}
