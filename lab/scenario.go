package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
)

// Scenario is one attack: who is there, what is sent in which order, and what is
// expected to come of it. Scenarios are data; Demo runs them all alike.
type Scenario struct {
	Name  string
	Title string // what it shows, on a line
	Story string // what happens and why, in a few sentences

	customers func(*Internet, DemoOptions) []Customer // nil: acme and globex
	trusted   []netip.Prefix                          // what the permissive relay takes for a customer's, beside the usual
	kinds     []kind
	acts      []act
	show      string // of which kind the spoof is that is shown; empty: any
	expect    func(*demo) []Check
	remark    string // what has to be said of the result
}

// class is how letters of a kind count.
type class string

const (
	legitimate class = "legitimate" // must arrive
	spoof      class = "spoof"      // must not be signed
	around     class = "around"     // never comes to a relay
	aside      class = "aside"      // only reported
)

// kind is a sort of letters that is counted apart.
type kind struct {
	name  string
	title string
	class class
}

// act is letters that are sent at the same time, to both doors.
type act struct {
	title   string // in the progress, up to labelWidth letters
	say     string // before it, at a readable pace
	spoof   bool   // it is bad if these are taken
	around  bool   // straight to the receivers, past both doors
	letters func(context.Context, *demo, *side) ([]parcel, error)
}

// parcel is a letter and its kind. Each is for a recipient of its own, by whom it
// is known where it arrives.
type parcel struct {
	kind string
	Letter
}

// Scenarios gives all of them, the default one first.
func Scenarios() []Scenario {
	return []Scenario{echospoof(), stolenSecret(), replay(), newTenantFlood(), misconfiguredSource()}
}

// findScenario gives one by its name; none is the default. The error lists them.
func findScenario(name string) (Scenario, error) {
	all := Scenarios()
	if name == "" {
		return all[0], nil
	}
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i >= 0 {
		return all[i], nil
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return Scenario{}, OptionsError{fmt.Sprintf("there is no scenario %q, but %s", name, strings.Join(names, ", "))}
}

// kindOf gives a kind by its name; the zero kind is of letters nobody sent here.
func (s *Scenario) kindOf(name string) kind {
	for _, k := range s.kinds {
		if k.name == name {
			return k
		}
	}
	return kind{}
}

// Check is one expectation and what came of it.
type Check struct {
	OK     bool   `json:"ok"`
	What   string `json:"what"`
	Seen   string `json:"seen"`
	Wanted string `json:"wanted"`
}

// String is the check on a line.
func (c Check) String() string { return fmt.Sprintf("%s: %s (wanted: %s)", c.What, c.Seen, c.Wanted) }

// all wants every one of them.
func all(what string, n, of int) Check { return Check{n == of, what, ratio(n, of), "all"} }

// none wants not one of them.
func none(what string, n, of int) Check { return Check{n == 0, what, ratio(n, of), "none"} }

// atMost wants no more than a bound, and says where the bound comes from.
func atMost(what string, n, bound int, why string) Check {
	return Check{n <= bound, what, fmt.Sprint(n), fmt.Sprintf("at most %d, %s", bound, why)}
}

func ratio(n, of int) string { return fmt.Sprintf("%d of %d", n, of) }

// served is what every scenario expects: the mail of the organisations flows.
func served(d *demo) []Check {
	n := d.result.Anechoic
	return []Check{
		all("legitimate messages that anechoic delivered", n.LegitDelivered, n.LegitSent),
		all("of them signed, so that DMARC passes", n.LegitAligned, n.LegitSent),
		all("of them in the inbox", n.LegitInbox, n.LegitSent),
		none("messages that anechoic delivered twice", n.Repeated, n.LegitSent),
		{n.Leaked == 0, "header fields with evidence that left anechoic", fmt.Sprint(n.Leaked), "none"},
	}
}

// silent is what the attacks expect that nothing gets through: no echo.
func silent(d *demo) []Check {
	n := d.result.Anechoic
	return []Check{
		all("spoofs that anechoic refused", n.SpoofsRefused, n.SpoofsSent),
		none("spoofs that anechoic signed", n.SpoofsSigned, n.SpoofsSent),
		none("spoofs that anechoic delivered", n.SpoofsArrived, n.SpoofsSent),
		{len(d.result.Example) > 1, "the ledger explains a refusal", ratio(min(len(d.result.Example), 1), 1), "one"},
	}
}

// works says that the attack is one: the permissive relay falls for these kinds.
func works(d *demo, kinds ...string) Check {
	var sent, inbox int
	for _, k := range d.result.Kinds {
		if slices.Contains(kinds, k.Name) {
			sent, inbox = sent+k.Permissive.Sent, inbox+k.Permissive.Inbox
		}
	}
	return all("the same attack at the permissive relay, in the inbox", inbox, sent)
}

// freemail is where everybody's correspondents have their mailboxes.
const freemail = "freemail.example"

// Addresses of the range beside the provider's.
var (
	application = netip.MustParseAddr("127.60.0.1") // acme's billing
	vps         = netip.MustParseAddr("127.70.0.1") // the attacker's
	ownServer   = netip.MustParseAddr("127.80.0.2") // initech's, in its range
	neighbour   = netip.MustParseAddr("127.80.0.9") // the attacker's, in the same range
	hosting     = netip.MustParsePrefix("127.80.0.0/28")
)

// usual is acme, with an application, and globex.
func usual(n *Internet, _ DemoOptions) []Customer {
	return []Customer{NewCustomer(n, "acme", 1, true), NewCustomer(n, "globex", 2, false)}
}

// rogueTenants is how many tenants the attacker has, as in 2024 one of many.
const rogueTenants = 5

// rogue is a tenant of the attacker's. The provider's hosts are shared: tenants
// far beyond their number send from the same ones.
func (d *demo) rogue(i int) Tenant {
	return Tenant{GUID: guid(fmt.Sprintf("rogue %d", i), 0), Originator: fmt.Sprintf("rogue%d.onmicrosoft.com", i+1), Host: d.hosts[i%len(d.hosts)]}
}

// officialAct is the mail of the organisations, which opens every scenario.
var officialAct = act{
	title: "Legitimate mail",
	say:   "The organisations send invoices: from mailboxes of their own Microsoft 365 tenants and from an application. Both relays sign them, and the receivers find SPF, DKIM and DMARC in order.",
	letters: func(_ context.Context, d *demo, _ *side) (list []parcel, _ error) {
		for i := range d.o.Legit {
			list = append(list, parcel{"legit", official(d.customers[i%len(d.customers)], i)})
		}
		return list, nil
	},
}

// official is a message of a customer's.
func official(c Customer, i int) Letter {
	from, to := fmt.Sprintf("person%d@%s", i%7, c.Domain), fmt.Sprintf("friend%d@%s", i, freemail)
	draft := Draft{
		From: fmt.Sprintf("%s <%s>", c.ID, from), To: to,
		Subject: "Invoice", MessageID: fmt.Sprintf("<legit-%d@%s>", i, c.Domain), Body: body(i, "Please find the invoice below."),
	}
	switch {
	case c.ID == initech:
		draft.From, from = "news@"+c.Domain, "news@"+c.Domain
		return Letter{Via: ownServer, From: from, To: to, Data: draft.Plain()}
	case c.Username != "" && i%4 == 0:
		draft.From, from = "billing@"+c.Domain, "billing@"+c.Domain
		return Letter{Via: application, From: from, To: to, User: c.Username, Secret: c.Password, Data: draft.Plain()}
	}
	return Letter{Via: c.Tenant.Host, From: from, To: to, Data: c.Tenant.Stamp(Cloud, draft, netip.Addr{})}
}

// fake is a spoof before anybody stamps it: From is a customer's, and so is MAIL
// FROM, which an attacker's connector lets him choose. i makes it one of a kind.
func fake(victim Customer, name string, i int) (Draft, Letter) {
	from := fmt.Sprintf("admin_support%s@%s", letters3(i), victim.Domain)
	to := fmt.Sprintf("%s%d@%s", name, i, freemail)
	draft := Draft{
		From: fmt.Sprintf("%s Support <%s>", victim.ID, from), To: to,
		Subject: "Your subscription has expired", MessageID: fmt.Sprintf("<%s-%d@vps.attacker.example>", name, i), Body: body(i, "Renew now: http://renew.attacker.example/"),
	}
	return draft, Letter{Via: vps, From: from, To: to}
}

// letters3 are the letters behind the name: the same in every run.
func letters3(i int) string {
	n := uint32(i)*2654435761>>7 + 2024 // Knuth's multiplicative hash spreads neighbours
	return string([]byte{'a' + byte(n%26), 'a' + byte(n/26%26), 'a' + byte(n/676%26)})
}

// through is a spoof that a rogue tenant relays blindly.
func through(t Tenant, route Route, draft Draft, l Letter) Letter {
	l.Via, l.Data = t.Host, t.Stamp(route, draft, vps)
	return l
}

// body is a text of about 1.5 KiB.
func body(i int, first string) string {
	return first + "\r\n\r\n" + strings.Repeat(fmt.Sprintf("This is line of message %d, as long as lines of mail are.\r\n", i), 25)
}

// domains are those of customers.
func domains(customers []Customer) (list []mail.Domain, err error) {
	for _, c := range customers {
		d, err := mail.ParseDomain(c.Domain)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}
