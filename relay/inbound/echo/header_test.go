package echo

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

func TestStampsAreReadOnce(t *testing.T) {
	for name, test := range map[string]struct {
		lines      []string
		tenant     string
		originator string
		repeated   bool
		entry      Entry
	}{
		"none":                       {lines("Subject: x"), "", "", false, UnknownEntry},
		"a mailbox":                  {mailbox(acmeTenant, "acme.example"), acmeTenant, "acme.example", false, Mailbox},
		"in any case":                {lines("x-originatororg: Acme.EXAMPLE", "x-ms-exchange-crosstenant-id: "+strings.ToUpper(acmeTenant)), acmeTenant, "acme.example", false, UnknownEntry},
		"folded":                     {lines("X-MS-Exchange-CrossTenant-Id:\r\n "+acmeTenant, "X-OriginatorOrg:\r\n\tacme.example"), acmeTenant, "acme.example", false, UnknownEntry},
		"twice":                      {lines(mailbox(acmeTenant, "acme.example"), "X-OriginatorOrg: acme.example"), acmeTenant, "", true, Mailbox},
		"no GUID":                    {stamps("11111111-1111-4111-8111-11111111111g", "acme.example"), "", "acme.example", false, UnknownEntry},
		"no domain":                  {stamps(acmeTenant, "acme example"), acmeTenant, "", false, UnknownEntry},
		"a connector":                {connector(acmeTenant, "acme.example"), acmeTenant, "acme.example", false, Connector},
		"a connector, and forwarded": {lines(connector(acmeTenant, "acme.example"), "X-MS-Exchange-ForwardingLoop: a@b.example;"+acmeTenant), acmeTenant, "acme.example", false, Outside},
		"from outside":               {outside(acmeTenant, "acme.example"), acmeTenant, "acme.example", false, Outside},
		"a word that is not known":   {lines(stamps(acmeTenant, "acme.example"), "X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Cloudy"), acmeTenant, "acme.example", false, Outside},
		"a mailbox whose check failed": {lines(stamps(acmeTenant, "acme.example"), "X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted", "X-MS-Exchange-SenderADCheck: 0"),
			acmeTenant, "acme.example", false, Outside},
	} {
		t.Run(name, func(t *testing.T) {
			s := read(t, test.lines)
			if s.Tenant != test.tenant || s.Originator.String() != test.originator || s.Repeated != test.repeated || s.Entry != test.entry {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestSignaturesStandBeforeAtOrAfterTheProvider(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  []Place
	}{
		"none":                          {lines(providerHop), nil},
		"no provider":                   {lines(signature, relayHop), []Place{Nowhere}},
		"at its egress":                 {lines("ARC-Seal: i=1", signature, providerHop, ingressHop), []Place{Egress}},
		"before it":                     {lines(providerHop, ingressHop, signature), []Place{Before}},
		"between its own servers":       {lines(providerHop, signature, ingressHop), []Place{Before}},
		"by a relay after it":           {lines(signature, relayHop, providerHop), []Place{After}},
		"below the relay's Received":    {lines(relayHop, signature, providerHop), []Place{Egress}},
		"one of each":                   {lines(signature, relayHop, signature, providerHop, signature), []Place{After, Egress, Before}},
		"a name that only ends like":    {lines(signature, "Received: from x by mail.notoutlook.com with ESMTP id 1"), []Place{Nowhere}},
		"a relay that names it as from": {lines(signature, "Received: from a.outlook.com by relay.example with ESMTP id 1"), []Place{Nowhere}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := read(t, test.lines).Place; !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// Whatever the header: there is a place for each signature, names are well formed,
// and a mailbox is claimed by its exact words only.
func FuzzStamps(f *testing.F) {
	for _, all := range [][]string{
		lines(signature, relayHop, signature, providerHop, ingressHop, signature, mailbox(acmeTenant, "acme.example")),
		connector(evilTenant, "evil.onmicrosoft.com"), outside("x", "x x"), lines("Received: by .outlook.com", "dkim-signature: x"),
	} {
		f.Add([]byte(strings.Join(all, "\r\n") + "\r\n"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := mail.ParseHeader(text, mail.HeaderLimits{})
		if err != nil {
			return
		}
		s := Read(attribution.ReadHeader(new(org.Directory), h), h)
		if len(s.Place) != h.Count("DKIM-Signature") {
			t.Errorf("%d places for %d signatures", len(s.Place), h.Count("DKIM-Signature"))
		}
		if s.Tenant != "" && guid(s.Tenant) != s.Tenant || s.who() != "" && !s.Any {
			t.Errorf("%+v", s)
		}
		lower := bytes.ToLower(text)
		if s.Entry == Mailbox && !(bytes.Contains(lower, []byte("internal")) && bytes.Contains(lower, []byte("hosted"))) {
			t.Errorf("a mailbox out of %q", text)
		}
		if !slices.IsSorted(order(s.Place)) {
			t.Errorf("places %v", s.Place)
		}
	})
}

// order numbers the places from the top of a header.
func order(places []Place) (n []int) {
	for _, p := range places {
		n = append(n, map[Place]int{Nowhere: 0, After: 1, Egress: 2, Before: 3}[p])
	}
	return n
}
