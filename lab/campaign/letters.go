package campaign

import (
	"fmt"
	"net/netip"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// Post is some of a world's messages as letters for a relay in the range.
type Post struct {
	Customers []lab.Customer
	Letters   []lab.Letter
	Labels    map[string]Label // by recipient, of whom each letter has one of its own
	LeftOut   map[string]int   // messages that the range has no source for, by kind
}

// PostDomain is where all of a Post goes.
const PostDomain = "freemail.example"

// Letters writes the first messages of each kind that are wanted as letters, no more
// than most says of the kind, with the stamps that the range's provider puts on them,
// and makes its organisations customers. The world is used up.
func (w *World) Letters(internet *lab.Internet, wanted func(Item) bool, most map[string]int) (Post, error) {
	const mostCustomers = 250 // that the range has numbers for
	if len(w.Organisations) > mostCustomers {
		return Post{}, fmt.Errorf("campaign: the range has room for %d organisations, not for %d", mostCustomers, len(w.Organisations))
	}
	t := typist{internet: internet, customers: map[string]lab.Customer{}, hosts: map[string]netip.Addr{}, post: Post{Labels: map[string]Label{}, LeftOut: map[string]int{}}}
	for i, o := range w.Organisations {
		c := lab.NewCustomer(internet, o.ID, byte(1+i), true)
		t.customers[o.ID] = c
		t.post.Customers = append(t.post.Customers, c)
	}
	written := map[string]int{}
	for item := range w.Items(nil) {
		if !begins(item.Event) || !wanted(item) || written[item.Label.Kind] == most[item.Label.Kind] {
			continue
		}
		letter, ok := t.write(item)
		if !ok {
			t.post.LeftOut[item.Label.Kind]++
			continue
		}
		written[item.Label.Kind]++
		t.post.Letters = append(t.post.Letters, letter)
		t.post.Labels[letter.To] = item.Label
	}
	return t.post, nil
}

// typist writes letters.
type typist struct {
	internet  *lab.Internet
	customers map[string]lab.Customer
	hosts     map[string]netip.Addr // sending hosts of foreign tenants, by what the events call them
	post      Post
}

// write makes a letter of a message; false: the range has no such source.
func (t *typist) write(item Item) (lab.Letter, bool) {
	e := item.Event
	number := len(t.post.Letters)
	to := fmt.Sprintf("r%d@%s", number, PostDomain)
	draft := lab.Draft{
		From: e.From, To: to, Subject: fmt.Sprintf("Subject %x", e.Print.Shape), MessageID: fmt.Sprintf("<%d.%s@%s>", number, e.ID, e.Print.IDHost), Body: body(e),
	}
	letter := lab.Letter{From: e.MailFrom, To: to, Subject: draft.Subject}
	c, known := t.customers[e.Org]
	switch {
	case e.What == detect.Refused && e.Reason == mail.ReasonTenantNotAuthorized && e.ConnectingIP != "":
		stranger := lab.Tenant{GUID: e.Tenant, Originator: e.Originator, Host: t.host(e.Peer)}
		letter.Via, letter.Data = stranger.Host, stranger.Stamp(lab.BlindRelay, draft, netip.MustParseAddr(e.ConnectingIP))
	case known && e.Source == e.Org+"-m365" && e.Origin == "hosted":
		letter.Via, letter.Data = c.Tenant.Host, c.Tenant.Stamp(lab.Cloud, draft, netip.Addr{})
	case known && e.Source == e.Org+"-"+string(Billing):
		letter.Via, letter.Data = e.Peer, draft.Plain()
		letter.User, letter.Secret = c.Username, c.Password
	default:
		return lab.Letter{}, false
	}
	return letter, true
}

// host gives a sending host of the range's provider for one of the world's.
func (t *typist) host(peer netip.Addr) netip.Addr {
	name := peer.String()
	if _, made := t.hosts[name]; !made {
		t.hosts[name] = t.internet.ProviderHost()
	}
	return t.hosts[name]
}

// body is a text that is alike where the events say that texts are.
func body(e detect.Event) string {
	text := fmt.Sprintf("Dear reader,\r\n\r\nthis is text number %x.\r\n", e.Print.Text)
	for _, host := range e.Print.Hosts {
		text += "See https://" + host + "/\r\n"
	}
	return text
}
