package echo

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/standard/authres"
)

// population is mail of one kind: so many messages a day for so many days, after
// what came before it.
type population struct {
	name   string
	attack bool
	before *population // its mail comes first, and is not counted
	rule   Rule
	days   int
	daily  int
	letter func(r *rand.Rand, day, n int) letter
}

// letter is a message as it arrives here, with what verification would say of it.
type letter struct {
	from    string
	peer    Peer
	via     string
	header  string
	seals   []attribution.Sealed
	aliases map[string]string // of key records, by domain
	named   []mail.Domain
}

// route is how a message came into the tenant, which decides what is stamped.
type route int

const (
	cloud   route = iota // written in a mailbox
	hybrid               // handed over by a server, through a connector
	forward              // received from outside, and forwarded by a rule
)

// customer is a tenant with one of its accepted domains.
type customer struct{ id, originator string }

// leaving is a message as a tenant hands it out, without signature and seal.
func leaving(c customer, r route, from string) letter {
	all := lines(providerHop, ingressHop)
	switch r {
	case cloud:
		all = lines("Received: from b.prod.outlook.com ([fe80::1]) by b.prod.outlook.com ([fe80::1]) with mapi id 15.20", "From: someone@"+from, mailbox(c.id, c.originator))
	case hybrid:
		all = lines(all, "From: someone@"+from, connector(c.id, c.originator))
	case forward:
		all = lines(all, "From: someone@"+from, outside(c.id, c.originator), "X-MS-Exchange-ForwardingLoop: box@"+c.originator+";"+c.id)
	}
	return letter{from: from, peer: ProviderPeer, via: "outbound.protection.outlook.com", header: strings.Join(all, "\r\n") + "\r\n"}
}

// on adds a line at the top of the header.
func (l letter) on(line string) letter {
	l.header = line + "\r\n" + l.header
	return l
}

// signed adds a signature that verifies. An alias says that the provider keeps the key.
func (l letter) signed(d, alias string) letter {
	if alias != "" {
		l.aliases = map[string]string{d: "selector1._domainkey." + alias}
	}
	return l.on("DKIM-Signature: v=1; a=rsa-sha256; d=" + d + "; s=selector1; h=from; bh=; b=")
}

// sealed adds a verified seal of the provider's that says so.
func (l letter) sealed(results string) letter {
	r, err := authres.Parse([]byte("mx.microsoft.com 1; " + results))
	if err != nil {
		panic(err)
	}
	a, ok := attribution.Attest(r)
	if !ok {
		panic(results)
	}
	l.seals = append(l.seals, attribution.Sealed{Instance: len(l.seals) + 1, Intact: true, Attested: a})
	return l.on("ARC-Seal: i=1; a=rsa-sha256; d=microsoft.com; cv=none; b=")
}

// relayed passes through a relay that signs whatever is in From.
func (l letter) relayed() letter {
	l.peer, l.via = OtherPeer, "mx0a-1.relay.example"
	return l.on("Received: from n.outbound.protection.outlook.com (n.outbound.protection.outlook.com [192.0.2.9]) by mx0a-1.relay.example (PPS) with ESMTPS id 1").signed(l.from, "")
}

// changed says that a server after the seals altered the message.
func (l letter) changed() letter {
	for i := range l.seals {
		l.seals[i].Intact = false
	}
	return l
}

// unsealed says that a server took the seals off, or broke them.
func (l letter) unsealed() letter {
	l.seals = nil
	return l
}

func (l letter) observe(now time.Time) Observation {
	h, err := mail.ParseHeader([]byte(l.header), mail.HeaderLimits{})
	if err != nil {
		panic(err)
	}
	o := Observation{
		Time: now, From: domain(l.from), Organisational: organisational(l.from), DMARC: true, SPF: true, Peer: l.peer, PeerName: domain(l.via),
		Stamps: Read(attribution.ReadHeader(new(org.Directory), h), h), Seals: l.seals, Named: l.named,
	}
	for i, f := range h.All("DKIM-Signature") {
		_, d, _ := strings.Cut(f.Value(), "d=")
		d, _, _ = strings.Cut(d, ";")
		o.Signatures = append(o.Signatures, Signature{Domain: domain(d), Selector: "selector1", Alias: l.aliases[d], Field: i})
	}
	return o
}

// organisational is good enough for names below .example.
func organisational(s string) mail.Domain {
	labels := strings.Split(s, ".")
	return domain(strings.Join(labels[max(0, len(labels)-2):], "."))
}

// tenant is one of a number, with an accepted domain.
func tenant(n int, originator string) customer {
	return customer{id: fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n), originator: originator}
}

func inside(d string) string {
	return "spf=pass smtp.mailfrom=" + d + "; dmarc=pass action=none header.from=" + d + "; dkim=pass header.d=" + d + "; arc=none"
}

func handedOver(from, spf, dkim, dmarc string) string {
	return "spf=" + spf + " (sender ip is 192.0.2.17) smtp.rcpttodomain=globex.example smtp.mailfrom=" + from +
		"; dmarc=" + dmarc + " action=none header.from=" + from + "; dkim=" + dkim + " header.d=" + from + "; arc=none (0)"
}

// ownMail is Acme's: written in its tenant's mailboxes and signed there, and straight
// from the provider.
func ownMail(*rand.Rand, int, int) letter {
	return leaving(tenant(1, "acme.example"), cloud, "acme.example").signed("acme.example", "acme.onmicrosoft.com").sealed(inside("acme.example"))
}

// spoof is a message of a stranger's tenant as Acme's, echoed by a relay.
func spoof(n int) letter {
	return leaving(tenant(9000+n, fmt.Sprintf("evil%d.onmicrosoft.com", n)), hybrid, "acme.example")
}

// promoted is a spoof whose tenant made its stamps say that a mailbox wrote it.
func promoted(n int) letter {
	return leaving(tenant(9000+n, fmt.Sprintf("evil%d.onmicrosoft.com", n)), cloud, "acme.example").
		on("Received: from vps.example (192.0.2.17) by c.mail.protection.outlook.com (10.1.1.1) with Microsoft SMTP Server id 15.20 via Frontend Transport")
}

// populations are kinds of mail that real organisations send, and attacks.
func populations() []population {
	own := &population{name: "own", days: 14, daily: 5, letter: ownMail}
	always := func(f func() letter) func(*rand.Rand, int, int) letter {
		return func(*rand.Rand, int, int) letter { return f() }
	}
	return []population{
		{name: "one tenant, straight from the provider", days: 30, daily: 10, letter: ownMail},
		{name: "one tenant behind a relay, the provider signs too", days: 30, daily: 10, letter: always(func() letter {
			return ownMail(nil, 0, 0).relayed()
		})},
		{name: "one tenant behind a relay, only the relay signs", days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(1, "acme.example"), cloud, "acme.example").sealed(inside("acme.example")).relayed().changed()
		})},
		{name: "own servers through the tenant and a relay, SPF does not list them", days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(1, "acme.example"), hybrid, "acme.example").sealed(handedOver("acme.example", "fail", "none", "fail")).relayed()
		})},
		{name: "five tenants of sub-domains", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			n := 1 + r.IntN(5)
			from := fmt.Sprintf("unit%d.acme.example", n)
			return leaving(tenant(n, from), cloud, from).sealed(inside(from)).relayed()
		}},
		{name: "brands in one tenant, each signed by the provider", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			from := fmt.Sprintf("brand%d.example", r.IntN(5))
			return leaving(tenant(1, "acme.example"), cloud, from).signed(from, "acme.onmicrosoft.com").sealed(inside(from)).relayed()
		}},
		{name: "brands in one tenant, only the relay signs", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			from := fmt.Sprintf("brand%d.example", r.IntN(5))
			return leaving(tenant(1, "acme.example"), cloud, from).sealed(inside(from)).relayed().changed()
		}},
		{name: "brands in one tenant, straight, without a signature", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			from := fmt.Sprintf("brand%d.example", r.IntN(5))
			return leaving(tenant(1, "acme.example"), cloud, from)
		}},
		{name: "a brand's subsidiaries, eight tenants behind one relay", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			n := 1 + r.IntN(8)
			return leaving(tenant(n, fmt.Sprintf("unit%d.example", n)), cloud, "brand.example").sealed(inside("brand.example")).relayed()
		}},
		{name: "a reseller's tenant for twenty customers", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			from := fmt.Sprintf("customer%d.example", r.IntN(20))
			return leaving(tenant(1, "reseller.example"), cloud, from).signed(from, "reseller.onmicrosoft.com").sealed(inside(from))
		}},
		{name: "twenty customers with tenants of their own and a reseller's relay", days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			n := r.IntN(20)
			from := fmt.Sprintf("customer%d.example", n)
			return leaving(tenant(n, fmt.Sprintf("customer%d.onmicrosoft.com", n)), cloud, from).signed(from, fmt.Sprintf("customer%d.onmicrosoft.com", n)).relayed()
		}},
		{name: "a domain moves from one tenant to another", days: 30, daily: 10, letter: func(_ *rand.Rand, day, _ int) letter {
			n := 1 + day/15
			return leaving(tenant(n, "acme.example"), cloud, "acme.example").signed("acme.example", fmt.Sprintf("acme%d.onmicrosoft.com", n)).relayed()
		}},
		{name: "a merger: the relay rewrites From of the bought tenant's mailboxes", before: own, days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(2, "bought.example"), cloud, "acme.example").sealed(inside("bought.example")).relayed().changed()
		})},
		{name: "a merger: the same, of the bought tenant's own servers", before: own, days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(2, "bought.example"), hybrid, "acme.example").sealed(handedOver("bought.example", "pass", "none", "pass")).relayed().changed()
		})},
		{name: "a merger: the same, and the administrator vouched for the tenant", before: own, rule: Rule{Vouched: []Vouch{{domain("acme.example"), tenant(2, "").id}}}, days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(2, "bought.example"), hybrid, "acme.example").sealed(handedOver("bought.example", "pass", "none", "pass")).relayed().changed()
		})},
		{name: "forwarded by forty people's tenants", before: own, days: 30, daily: 10, letter: func(r *rand.Rand, _, _ int) letter {
			n := r.IntN(40)
			l := leaving(tenant(100+n, fmt.Sprintf("alumni%d.example", n)), forward, "acme.example")
			l.header += signature + "\r\n"
			return l.sealed(handedOver("acme.example", "pass", "pass", "pass"))
		}},
		{name: "free mailboxes of the provider", days: 30, daily: 10, letter: always(func() letter {
			return leaving(customer{consumerTenant, "outlook.com"}, cloud, "outlook.com").sealed("spf=none; dmarc=none; dkim=none; arc=none").signed("outlook.com", "")
		})},
		{name: "mail from the provider's own name of a tenant", days: 30, daily: 10, letter: always(func() letter {
			return leaving(tenant(1, "acme.onmicrosoft.com"), cloud, "acme.onmicrosoft.com").relayed()
		})},

		{name: "echo, seals whole, domain never seen, one tenant", attack: true, days: 10, daily: 30, letter: always(func() letter {
			return spoof(0).sealed(handedOver("acme.example", "fail", "none", "fail")).relayed()
		})},
		{name: "echo, the relay changes the message, domain never seen", attack: true, days: 10, daily: 30, letter: always(func() letter {
			return spoof(0).sealed(handedOver("acme.example", "fail", "none", "fail")).relayed().changed()
		})},
		{name: "echo, seals taken off, domain known, one tenant", attack: true, before: own, days: 10, daily: 30, letter: always(func() letter {
			return spoof(0).relayed().unsealed()
		})},
		{name: "echo, seals taken off, domain never seen, many tenants", attack: true, days: 10, daily: 30, letter: func(r *rand.Rand, _, _ int) letter {
			return spoof(r.IntN(100)).relayed().unsealed()
		}},
		{name: "echo, seals taken off, domain never seen, one tenant", attack: true, days: 10, daily: 30, letter: always(func() letter {
			return spoof(0).relayed().unsealed()
		})},
		{name: "the same, and DNS names the domain's own tenant", attack: true, days: 10, daily: 30, letter: always(func() letter {
			l := spoof(0).relayed().unsealed()
			l.named = []mail.Domain{domain("acme.onmicrosoft.com")}
			return l
		})},
		{name: "echo, stamps say mailbox, domain known, many tenants", attack: true, before: own, days: 10, daily: 30, letter: func(r *rand.Rand, _, _ int) letter {
			return promoted(r.IntN(100)).relayed().unsealed()
		}},
		{name: "echo, stamps say mailbox, domain known, one tenant", attack: true, before: own, days: 10, daily: 30, letter: always(func() letter {
			return promoted(0).relayed().unsealed()
		})},
		{name: "echo, slow: one a day for three months, seals taken off, domain known", attack: true, before: own, days: 90, daily: 1, letter: always(func() letter {
			return spoof(0).relayed().unsealed()
		})},
		{name: "echo that its recipient's tenant forwards", attack: true, before: own, days: 10, daily: 30, letter: func(r *rand.Rand, _, n int) letter {
			l := leaving(tenant(500, "globex.example"), forward, "acme.example")
			l.header += signature + "\r\n"
			return l.sealed(handedOver("acme.example", "fail", "none", "fail")).sealed(handedOver("acme.example", "pass", "pass", "pass"))
		}},
		{name: "spoof forwarded through the domain's own tenant", attack: true, before: own, days: 10, daily: 30, letter: always(func() letter {
			return leaving(tenant(1, "acme.example"), forward, "acme.example").signed("acme.example", "acme.onmicrosoft.com").sealed(handedOver("acme.example", "fail", "none", "fail"))
		})},
		{name: "spoof that passes by the provider's shared addresses", attack: true, days: 10, daily: 30, letter: always(func() letter {
			return spoof(0)
		})},
		{name: "copies of the domain's own mail under other stamps, to teach", attack: true, before: own, days: 30, daily: 5, letter: always(func() letter {
			l := ownMail(nil, 0, 0)
			l.header = strings.ReplaceAll(l.header, tenant(1, "").id, tenant(9000, "").id)
			l.header = strings.ReplaceAll(l.header, "X-OriginatorOrg: acme.example", "X-OriginatorOrg: evil0.onmicrosoft.com")
			l.peer, l.via = OtherPeer, "vps.example"
			return l
		})},
	}
}

// count is what became of a population.
type count struct {
	messages int
	verdicts map[Echo]int
	first    int // the how-manieth message was the first suspect; 0: none
	learned  []string
}

// run sends a population, and what comes before it, past a new table.
func (p population) run(t *testing.T) count {
	t.Helper()
	table, now := new(Table), time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC)
	if p.before != nil {
		p.before.send(table, now, nil)
		now = now.Add(time.Duration(p.before.days) * 24 * time.Hour)
	}
	c := count{verdicts: map[Echo]int{}}
	p.send(table, now, func(v Verdict) {
		c.messages++
		c.verdicts[v.Echo]++
		if v.Echo == Suspect && c.first == 0 {
			c.first = c.messages
		}
	})
	if known, ok := table.Profile(domain("acme.example")); ok {
		c.learned = known.Known(now.Add(time.Duration(p.days) * 24 * time.Hour))
	}
	return c
}

func (p population) send(table *Table, now time.Time, tell func(Verdict)) {
	r := rand.New(rand.NewPCG(1, 2))
	for day := range p.days {
		for n := range p.daily {
			at := now.Add(time.Duration(day)*24*time.Hour + time.Duration(n)*time.Minute)
			if v := table.Observe(p.rule, p.letter(r, day, n).observe(at)); tell != nil {
				tell(v)
			}
		}
	}
}
