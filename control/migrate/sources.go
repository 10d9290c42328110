package migrate

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// newPassword is one that was made, because the old one is known only as a hash of
// another kind, or not at all.
type newPassword struct{ username, password string }

// maxUsers bounds how many credentials are made: each costs a hash.
const maxUsers = 20_000

// credentials makes a source of every login that owns addresses. One that owns none is
// not given any From: it stays undecided.
func (d *drafting) credentials() {
	for _, name := range []string{"myhostname", "mydomain", "smtpd_sasl_local_domain"} {
		d.realms = append(d.realms, d.Main.Get(name).Text)
	}
	users := d.users()
	if len(users) > maxUsers {
		d.left(rankUser, users[maxUsers].At, fmt.Sprintf("%d users", len(users)-maxUsers), fmt.Sprintf("more than %d are not made into sources at once", maxUsers), "import the others in parts")
		users = users[:maxUsers]
	}
	taken := make(map[string]bool)
	for _, u := range users {
		name := strings.ToLower(u.Name)
		if !validUsername(u.Name) || taken[name] {
			d.left(rankUser, u.At, "user "+quoted(u.Name), "user names are ASCII without spaces, at most 255 characters, and each is there once, without regard to case", "give the user another name")
			continue
		}
		taken[name] = true
		d.credential(u)
	}
}

// users are those that were listed; else every login that owns something.
func (d *drafting) users() []User {
	if len(d.Users) > 0 {
		d.absent()
		return d.Users
	}
	users := make([]User, 0, len(d.logins))
	for _, login := range d.logins {
		users = append(users, User{Name: login, At: d.owned[login][0].at})
	}
	return users
}

// absent tells of logins that own addresses and are not among the users.
func (d *drafting) absent() {
	present := make(map[string]bool, len(d.Users))
	for _, u := range d.Users {
		present[u.Name], present[d.bare(u.Name)] = true, true
	}
	for _, login := range d.logins {
		if !present[login] {
			d.left(rankUser, d.owned[login][0].at, "login "+quoted(login)+" of smtpd_sender_login_maps", "it is not among the users that were given", "nothing, if it is gone; else import again with a complete list")
		}
	}
}

// bare is a user's name without this machine's realm; empty if it has none.
func (d *drafting) bare(user string) string {
	name, realm, ok := strings.Cut(user, "@")
	if !ok || realm == "" || !slices.Contains(d.realms, realm) {
		return ""
	}
	return name
}

func validUsername(s string) bool {
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

func (d *drafting) credential(u User) {
	owned := slices.Concat(d.owned[u.Name], d.owned[d.bare(u.Name)])
	o, why := d.ownerOf(owned)
	if o == nil {
		d.plan.Undecided = append(d.plan.Undecided, Undecided{What: "user " + u.Name, Why: why, At: u.At, kind: string(org.Credential), username: u.Name})
		return
	}
	s := &Source{ID: d.sourceID(o, u.Name), Kind: string(org.Credential), Username: u.Name, At: []Place{u.At}}
	for _, p := range owned {
		if !slices.Contains(s.From, p.text) {
			s.From, s.At = append(s.From, p.text), append(s.At, p.at)
		}
	}
	s.hash, s.note = d.password(u)
	o.Sources = append(o.Sources, s)
}

// ownerOf is the one organisation that has all of the domains.
func (d *drafting) ownerOf(owned []pattern) (o *Organisation, why string) {
	if len(owned) == 0 {
		return nil, "nothing says as whom this user may send: smtpd_sender_login_maps has no address for it"
	}
	for _, p := range owned {
		switch of := d.byDomain[p.domain]; {
		case of == nil:
			return nil, p.domain.String() + " is no organisation's here"
		case o != nil && of != o:
			return nil, "it sends as " + p.domain.String() + " of " + of.ID + " and as a domain of " + o.ID + ": a source is one organisation's"
		default:
			o = of
		}
	}
	return o, ""
}

func (d *drafting) sourceID(o *Organisation, name string) string {
	id := free(idOf(name), func(id string) bool { return d.ids[o.ID+"/"+id] })
	d.ids[o.ID+"/"+id] = true
	return id
}

// password takes over what can be checked here, and makes a new password for the rest.
func (d *drafting) password(u User) (hash, note string) {
	switch u.Scheme {
	case "PLAIN":
		return org.HashPassword([]byte(u.Password)), "the password is the old one"
	case "ARGON2ID":
		if _, err := org.ParsePasswordHash(u.Password); err == nil {
			return u.Password, "the password is the old one"
		}
	}
	made := org.NewSecret()
	d.plan.passwords = append(d.plan.passwords, newPassword{u.Name, made})
	return org.HashPassword([]byte(made)), "a new password: it stands in passwords.txt"
}

// addresses makes sources of the entries of mynetworks that are few enough, nobody
// else's and of one organisation.
func (d *drafting) addresses() {
	d.note("mynetworks")
	for i, n := range d.Networks {
		why := d.refuseNetwork(n, d.Networks[:i])
		if why != "" {
			if !n.Not {
				d.left(rankNetwork, n.At, "mynetworks: "+shown(n.Text), why, d.insteadOf(n))
			}
			continue
		}
		o := d.hasAddress(n.Prefix)
		if o == nil {
			d.plan.Undecided = append(d.plan.Undecided, Undecided{What: "address " + n.Prefix.String(), Why: "nothing says which organisation's it is: name it with --organisation ID=" + n.Prefix.String(), At: n.At, kind: string(org.Address), address: n.Prefix})
			continue
		}
		d.address(o, n)
	}
}

// refuseNetwork says why an entry of mynetworks is no source.
func (d *drafting) refuseNetwork(n Network, before []Network) string {
	p := n.Prefix
	overlaps := func(o Network) bool { return o.Prefix.IsValid() && o.Prefix.Overlaps(p) }
	switch {
	case n.Not:
		return "an exception"
	case !p.IsValid():
		return "a name, or a table that is no text: only addresses prove anything"
	case loopback(p):
		return "every program of this machine sends from there"
	case sharedBy(p, wellKnown, d.wishes.Shared) != "":
		return "these addresses are shared by all customers of " + sharedBy(p, wellKnown, d.wishes.Shared)
	case wide(p):
		return fmt.Sprintf("a source has at most a /%d (IPv6: a /%d) of addresses", widest4, widest6)
	case slices.ContainsFunc(before, func(o Network) bool { return o.Not && overlaps(o) }):
		return "some of it was taken out again: write what is meant"
	case slices.ContainsFunc(before, func(o Network) bool { return !o.Not && overlaps(o) && !wide(o.Prefix) }):
		return "it is there already"
	case slices.ContainsFunc(d.plan.relay.bind, p.Contains):
		return "this relay sends from there: its own mail that comes back proves nothing"
	}
	return ""
}

// insteadOf is what to do about an entry that became no source.
func (d *drafting) insteadOf(n Network) string {
	switch {
	case !n.Prefix.IsValid():
		return "list the addresses, or give the machines a credential"
	case loopback(n.Prefix):
		return "give local programs a credential each, and let them submit over TLS"
	case sharedBy(n.Prefix, wellKnown, d.wishes.Shared) != "":
		return "connect the customer's tenant as a microsoft365 or google source (docs/microsoft365.md, docs/google.md)"
	}
	return "list the few machines in it that send, or give each a credential"
}

// hasAddress is whose an address is: as a person said, else the only organisation's.
func (d *drafting) hasAddress(p netip.Prefix) *Organisation {
	for _, c := range d.wishes.Organisations {
		for _, item := range c.Items {
			if own := parseNetwork(item); own.IsValid() && own.Bits() <= p.Bits() && own.Contains(p.Addr()) {
				return d.organisation(c.ID)
			}
		}
	}
	if len(d.plan.Organisations) == 1 && len(d.plan.Organisations[0].Domains) > 0 {
		return d.plan.Organisations[0]
	}
	return nil
}

func (d *drafting) organisation(id string) *Organisation {
	for _, o := range d.plan.Organisations {
		if o.ID == id && len(o.Domains) > 0 {
			return o
		}
	}
	return nil
}

func (d *drafting) address(o *Organisation, n Network) {
	s := &Source{ID: d.sourceID(o, "address-"+n.Prefix.Addr().String()), Kind: string(org.Address), Addresses: []netip.Prefix{n.Prefix}, At: []Place{n.At}}
	s.note = "it was believed whatever it sent: narrow `from` to what it really sends as"
	for _, domain := range o.Domains {
		s.From = append(s.From, "*@"+domain.Name.String())
	}
	slices.Sort(s.From)
	o.Sources = append(o.Sources, s)
}

// inbound takes over relay_domains with their transports.
func (d *drafting) inbound() {
	d.note("relay_domains", "transport_maps")
	transports := d.files.tables(d.Main, "transport_maps")
	for _, e := range d.domainList("relay_domains") {
		what := "mail for " + shown(e.Key) + " (relay_domains)"
		name, ok := ownable(e.Key)
		o := d.byDomain[name]
		if !ok || e.Pattern || o == nil {
			d.left(rankInbound, e.At, what, "it is no single domain", "name the domains")
			continue
		}
		next, at := nextHop(transports, name)
		switch {
		case next == "":
			d.left(rankInbound, e.At, what, "transport_maps has no server of its own for it", `write [[organisation.inbound]] with deliver_to = "host:port"`)
		case len(d.wishes.InboundBind) == 0 && len(o.Sources) > 0 && !strings.HasPrefix(next, "127.0.0.1:"):
			d.left(rankInbound, e.At, what, "mail for "+o.ID+" would leave from the same address as its own mail, and pass SPF as "+o.ID, "give --inbound-bind an address of this machine that is in no organisation's SPF record")
		default:
			o.Inbound = append(o.Inbound, Inbound{Domains: []mail.Domain{name}, DeliverTo: next, At: at})
		}
	}
}

// nextHop finds where the mail of a domain goes: host:port, or lmtp:host:port.
func nextHop(tables []Table, name mail.Domain) (string, Place) {
	for key := name; !key.IsZero(); key = key.Parent() {
		for i := range tables {
			for _, e := range tables[i].Entries {
				listed := strings.ToLower(e.Key)
				if !e.Pattern && (key == name && listed == name.String() || key != name && listed == "."+key.String()) {
					return parseTransport(e.Value), e.At
				}
			}
		}
	}
	return "", Place{}
}

// parseTransport reads smtp:[host]:port, lmtp:inet:host:port and the like; empty: it
// leads to no server by name or address.
func parseTransport(s string) string {
	kind, hop, _ := strings.Cut(s, ":")
	prefix := ""
	switch kind {
	case "smtp", "relay":
	case "lmtp":
		if hop, _ = strings.CutPrefix(hop, "inet:"); strings.HasPrefix(hop, "unix:") {
			return ""
		}
		prefix = "lmtp:"
	default:
		return ""
	}
	host, port := hopOf(hop)
	if host == "" {
		return ""
	}
	return prefix + net.JoinHostPort(host, port)
}

// hopOf reads [host]:port, [host], host:port or host. The port is 25 where none is
// written, and for every name that is no number.
func hopOf(hop string) (host, port string) {
	port = "25"
	if strings.HasPrefix(hop, "[") {
		inside, rest, ok := strings.Cut(hop[1:], "]")
		if !ok {
			return "", ""
		}
		hop = strings.TrimPrefix(inside, "IPv6:")
		if p, ok := strings.CutPrefix(rest, ":"); ok {
			port = p
		}
	} else if before, after, ok := strings.Cut(hop, ":"); ok {
		hop, port = before, after
	}
	switch port {
	case "smtp":
		port = "25"
	case "submission":
		port = "587"
	case "submissions", "smtps":
		port = "465"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", ""
	}
	if _, err := netip.ParseAddr(hop); err != nil {
		name, err := mail.ParseDomain(hop)
		if err != nil {
			return "", ""
		}
		hop = name.String()
	}
	return hop, port
}
