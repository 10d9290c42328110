package lab

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

var (
	legitKind = kind{"legit", "legitimate mail", legitimate}
	spoofKind = kind{"spoof", "the campaign", spoof}
)

// echospoof is the campaign of 2024 as it was.
func echospoof() Scenario {
	return Scenario{
		Name: "echospoof", Title: "the campaign of 2024: rogue tenants, the customers' names",
		Story: "The attacker rents tenants of Microsoft 365 and has them relay what his server writes. From is a customer of the relay. The old relay takes what comes from Microsoft's addresses for its customer's mail, and signs it.",
		kinds: []kind{legitKind, spoofKind},
		acts: []act{officialAct, {
			title: "Spoofs", spoof: true,
			say: "Now the same number of spoofs goes to both doors, from five tenants of the attacker's. The provider's stamps say whose tenant it was; the old relay does not look.",
			letters: func(_ context.Context, d *demo, _ *side) (list []parcel, _ error) {
				for i := range d.o.Spoofs {
					draft, l := fake(d.customers[i%len(d.customers)], "victim", i)
					list = append(list, parcel{"spoof", through(d.rogue(i%rogueTenants), BlindRelay, draft, l)})
				}
				return list, nil
			},
		}},
		expect: func(d *demo) []Check {
			return slices.Concat(served(d), silent(d), []Check{works(d, "spoof")})
		},
	}
}

// stolenSecret: the attacker knows acme's secret header.
func stolenSecret() Scenario {
	return Scenario{
		Name: "stolen-secret", Title: "the attacker knows acme's secret header",
		Story: "The secret that acme's transport rule puts on its mail has leaked, say in a bounce that quotes a header. The attacker puts it on his own mail. It is one of two proofs: the tenant is the other, and that one Microsoft stamps.",
		kinds: []kind{legitKind,
			{"mailbox", "the secret, from a mailbox of the attacker's tenant", spoof},
			{"relayed", "the secret, relayed blindly by the attacker's tenant", spoof},
			{"vps", "the secret and forged stamps, from the attacker's server", spoof}},
		show: "mailbox",
		acts: []act{officialAct, {
			title: "The stolen secret", spoof: true,
			say: "Mail in acme's name comes with acme's own secret: out of a tenant of the attacker's, and straight from his server, with Microsoft's stamps forged.",
			letters: func(_ context.Context, d *demo, _ *side) (list []parcel, _ error) {
				for i := range d.o.Spoofs {
					list = append(list, d.stolen(i))
				}
				return list, nil
			},
		}},
		expect: func(d *demo) []Check {
			leak := slices.ContainsFunc(d.result.Findings, func(f string) bool { return strings.Contains(f, "has leaked") })
			return slices.Concat(served(d), silent(d), []Check{
				works(d, "mailbox", "relayed"),
				{leak, "the relay noticed that acme's secret has leaked", yes(leak), "yes"},
			})
		},
		remark: "The secret alone opens nothing. Replace it all the same: anechoic source secret new.",
	}
}

// stolen is one letter in three of each kind.
func (d *demo) stolen(i int) parcel {
	acme := d.customers[0]
	thief := d.rogue(i % rogueTenants)
	thief.SecretName, thief.Secret = acme.Tenant.SecretName, acme.Tenant.Secret
	draft, l := fake(acme, "victim", i)
	switch i % 3 {
	case 0:
		return parcel{"mailbox", through(thief, Cloud, draft, l)}
	case 1:
		draft.Extra = []string{thief.SecretName + ": " + thief.Secret}
		return parcel{"relayed", through(thief, BlindRelay, draft, l)}
	}
	forged := acme.Tenant
	l.Data = forged.Stamp(Cloud, draft, netip.Addr{})
	return parcel{"vps", l}
}

// aroundShare is how many of the spoofs go past the doors, one in so many.
const aroundShare = 20

// replay: a signed message of acme comes again and again.
func replay() Scenario {
	return Scenario{
		Name: "replay", Title: "a signed message of acme again, to other people",
		Story: "The attacker has a mailbox, and in it an invoice that acme sent: signed. He sends it again, not a byte changed, to other recipients. A signature covers the message, not the envelope.",
		kinds: []kind{legitKind,
			{"vps", "the copy, from the attacker's server", spoof},
			{"tenant", "the copy, through a rogue tenant", spoof},
			{"direct", "the copy, straight to the receivers", around},
			{"altered", "the copy with another Subject, straight to the receivers", around}},
		show: "tenant",
		acts: []act{officialAct, {
			title: "Copies, to the doors", spoof: true,
			say: "First he tries the relays, from his server and through a tenant of his. A signature of the relay's own is no proof to the relay: it would vouch for itself.",
			letters: func(ctx context.Context, d *demo, at *side) ([]parcel, error) {
				return d.copies(ctx, at, d.o.Spoofs)
			},
		}, {
			title: "Copies, round the doors", spoof: true, around: true,
			say: "Then he sends copies straight to the receivers. No relay is asked: the old signature holds until it expires. A copy with one word changed does not pass.",
			letters: func(ctx context.Context, d *demo, at *side) ([]parcel, error) {
				return d.copiesAround(ctx, at, max(d.o.Spoofs/aroundShare, 2))
			},
		}},
		expect: func(d *demo) []Check {
			altered, direct := d.result.kind("altered"), d.result.kind("direct")
			return slices.Concat(served(d), silent(d), []Check{
				works(d, "tenant"),
				all("changed copies that receivers reject", altered.Anechoic.Rejected, altered.Anechoic.Sent),
				all("unchanged copies round the relay that still pass DMARC", direct.Anechoic.DMARCPass, direct.Anechoic.Sent),
				{d.signatureLives > 0 && d.signatureLives <= longestSignature, "days until such a copy fails everywhere", fmt.Sprintf("%.1f", d.signatureLives.Hours()/24), "at most 6"},
			})
		},
		remark: "What went round the relay is not the relay's to stop: a copy passes until the signature's x=, six days at most. Changed, it fails at once.",
	}
}

// longestSignature is how long a signature of the relay's lives: x= is t= + 6 days.
const longestSignature = 6 * 24 * time.Hour

// copyOf waits for the first legitimate message as a door signed it.
func (d *demo) copyOf(ctx context.Context, at *side) (Judgement, error) {
	return at.receiver.Await(ctx, "friend0@"+freemail)
}

// copies are verbatim copies of a signed message: one in four from the attacker's
// server, the rest through tenants of his.
func (d *demo) copies(ctx context.Context, at *side, n int) (list []parcel, err error) {
	signed, err := d.copyOf(ctx, at)
	if err != nil {
		return nil, err
	}
	for i := range n {
		l := Letter{Via: vps, From: signed.MailFrom, To: fmt.Sprintf("victim%d@%s", i, freemail), Data: signed.Data}
		if i%4 == 0 {
			list = append(list, parcel{"vps", l})
			continue
		}
		tenant := d.rogue(i % rogueTenants)
		l.Via = tenant.Host
		if l.Data, err = tenant.Restamp(BlindRelay, signed.Data, vps); err != nil {
			return nil, err
		}
		list = append(list, parcel{"tenant", l})
	}
	return list, nil
}

// copiesAround are copies for the receivers, every other one changed.
func (d *demo) copiesAround(ctx context.Context, at *side, n int) (list []parcel, err error) {
	signed, err := d.copyOf(ctx, at)
	if err != nil {
		return nil, err
	}
	if at == d.anechoic {
		d.signatureLives = time.Until(signed.Expires)
	}
	changed := []byte(strings.Replace(string(signed.Data), "\r\nSubject: Invoice\r\n", "\r\nSubject: Final notice\r\n", 1))
	for i := range n {
		l := Letter{Via: vps, From: signed.MailFrom, To: fmt.Sprintf("other%d@%s", i, freemail), Data: signed.Data}
		if i%2 == 1 {
			l.Data = changed
			list = append(list, parcel{"altered", l})
			continue
		}
		list = append(list, parcel{"direct", l})
	}
	return list, nil
}

// perTenant is how few messages each fresh tenant sends, below what a limit by
// tenant would see.
const perTenant = 5

// newTenantFlood: no tenant sends more than a few messages.
func newTenantFlood() Scenario {
	return Scenario{
		Name: "new-tenant-flood", Title: "hundreds of fresh tenants, a few messages each",
		Story: "Lists of bad tenants and limits by tenant come too late: each tenant is new, and done after five messages. The organisations' own mail comes from the same addresses of the provider, in between.",
		kinds: []kind{legitKind, spoofKind},
		acts: []act{{
			title: "Flood and own mail", spoof: true,
			say: "Spoofs of hundreds of tenants and the organisations' own mail come side by side through the same shared servers of the provider.",
			letters: func(ctx context.Context, d *demo, at *side) ([]parcel, error) {
				list, err := officialAct.letters(ctx, d, at)
				if err != nil {
					return nil, err
				}
				for i := range d.o.Spoofs {
					draft, l := fake(d.customers[i%len(d.customers)], "victim", i)
					list = append(list, parcel{"spoof", through(d.rogue(i/perTenant), BlindRelay, draft, l)})
				}
				return mixed(list, d.o.Legit), nil
			},
		}},
		expect: func(d *demo) []Check {
			return slices.Concat(served(d), silent(d), []Check{works(d, "spoof")})
		},
		remark: "No tenant was on a list of bad ones. None has to be: only an organisation's own tenants are on its list.",
	}
}

// mixed spreads the first n parcels evenly among the others.
func mixed(list []parcel, n int) []parcel {
	few, many := list[:n], list[n:]
	out := make([]parcel, 0, len(list))
	for i, p := range many {
		for len(few) > 0 && (n-len(few))*len(many) <= i*n {
			out, few = append(out, few[0]), few[1:]
		}
		out = append(out, p)
	}
	return append(out, few...)
}

// initech is the organisation that made a mistake.
const initech = "initech"

// misconfiguredSource: the relay believes what an organisation told it, and that
// was wrong.
func misconfiguredSource() Scenario {
	return Scenario{
		Name: "misconfigured-source", Title: "one organisation made a real mistake: what it costs whom",
		Story: "Initech registered a /28 of a hosting company as its own addresses. Its server has one of the sixteen; the attacker rents another. The relay cannot know: it was told that these addresses are initech's alone.",
		customers: func(n *Internet, o DemoOptions) []Customer {
			return append(usual(n, o), newInitech(n, o))
		},
		trusted: []netip.Prefix{hosting},
		kinds: []kind{legitKind,
			{"listed", "as initech, an address that the source may use", spoof},
			{"unlisted", "as initech, any other address", spoof},
			{"others", "as acme or globex", spoof},
			{"own", "initech's own mail after that", aside},
			{"later", "mail of acme and globex after that", legitimate}},
		show: "others",
		acts: []act{officialAct, {
			title: "Spoofs from next door", spoof: true,
			say: "The attacker sends from the address next to initech's: as the address that the source lists, as other addresses of initech, and as acme and globex.",
			letters: func(_ context.Context, d *demo, _ *side) (list []parcel, _ error) {
				for i := range d.o.Spoofs {
					list = append(list, d.fromNextDoor(i))
				}
				return list, nil
			},
		}, {
			title: "Own mail, afterwards",
			say:   "What does it cost the organisations? Each sends on.",
			letters: func(_ context.Context, d *demo, _ *side) (list []parcel, _ error) {
				for i := range d.o.Legit / 4 {
					c := d.customers[i%len(d.customers)]
					name := "later"
					if c.ID == initech {
						name = "own"
					}
					list = append(list, parcel{name, official(c, d.o.Legit+i)})
				}
				return list, nil
			},
		}},
		expect: expectBounds,
		remark: "This is a hole, and initech made it: until its budget was spent, mail of a stranger left signed as news@initech.example. Nobody else's name did. A credential or a certificate instead of addresses closes it.",
	}
}

// newInitech has a budget of twice what it sends here.
func newInitech(n *Internet, o DemoOptions) Customer {
	c := NewCustomer(n, initech, 3, false)
	c.Sources = fmt.Sprintf(`  [[organisation.source]]
  id = "initech-server"
  kind = "address"
  role = "application"
  addresses = [%q]
  from = ["news@%s"]
  limits = { messages_per_hour = %d }
`, hosting, c.Domain, initechBudget(o))
	return c
}

// initechBudget is messages an hour: twice initech's own share of the mail.
func initechBudget(o DemoOptions) int { return max(2*initechShare(o), 1) }

// initechShare is every third message.
func initechShare(o DemoOptions) int { return o.Legit / 3 }

// fromNextDoor is one in two as initech's listed address, and a quarter each as
// another of its addresses and as somebody else.
func (d *demo) fromNextDoor(i int) parcel {
	own := d.customers[2]
	switch i % 4 {
	case 1:
		draft, l := fake(own, "victim", i)
		l.Via, l.Data = neighbour, draft.Plain()
		return parcel{"unlisted", l}
	case 3:
		draft, l := fake(d.customers[i/4%2], "victim", i)
		l.Via, l.Data = neighbour, draft.Plain()
		return parcel{"others", l}
	}
	draft, l := fake(own, "victim", i)
	draft.From, l.From = "Initech News <news@"+own.Domain+">", "news@"+own.Domain
	l.Via, l.Data = neighbour, draft.Plain()
	return parcel{"listed", l}
}

// expectBounds states how much got through, and that it is bounded.
func expectBounds(d *demo) []Check {
	n := d.result.Anechoic
	listed, unlisted, others, own := d.result.kind("listed").Anechoic, d.result.kind("unlisted").Anechoic, d.result.kind("others").Anechoic, d.result.kind("own").Anechoic
	budget := initechBudget(d.o)
	earned := int(math.Ceil(float64(budget) * time.Since(d.started).Hours())) // the budget comes back evenly over an hour
	return slices.Concat(served(d), []Check{
		atMost("spoofs that anechoic signed as initech's listed address", listed.Signed, budget-initechShare(d.o)+earned, fmt.Sprintf("what initech left of its budget of %d an hour", budget)),
		{listed.Signed > 0, "the mistake is one: some of them got through", fmt.Sprint(listed.Signed), "more than none"},
		none("spoofs as any other address of initech that anechoic signed", unlisted.Signed, unlisted.Sent),
		none("spoofs as acme or globex that anechoic signed", others.Signed, others.Sent),
		none("spoofs as acme or globex that anechoic delivered", others.Delivered, others.Sent),
		{own.Sent-own.Delivered == own.PutOff, "initech's own mail that is put off, not refused, until its budget is back", ratio(own.PutOff, own.Sent), "what did not pass"},
		{n.SpoofsSent-n.SpoofsRefused == listed.Accepted, "spoofs taken beyond those", fmt.Sprint(n.SpoofsSent - n.SpoofsRefused - listed.Accepted), "none"},
		works(d, "listed", "unlisted", "others"),
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
