package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Hole is a line of the old configuration by which somebody else could have sent as an
// organisation.
type Hole struct {
	Kind    string `json:"kind"`
	At      Place  `json:"at"`
	Line    string `json:"line"`
	Attack  string `json:"attack"`  // what an attacker could have done
	Instead string `json:"instead"` // what the new registry does
	Do      string `json:"do"`

	rank int
}

// The kinds of hole, worst first.
const (
	OpenRelay      = "open_relay"
	ProviderRange  = "provider_range"  // a shared provider's addresses may relay
	ProviderSigned = "provider_signed" // and are signed for
	AnyCertificate = "any_certificate"
	ClientClaims   = "client_claims" // XCLIENT from too many
	WideNetwork    = "wide_network"
	SigningAny     = "signing_any" // whatever From is signed
	AnySender      = "any_sender"  // a user sends as anybody
	NetworkSender  = "network_sender"
	FromUnchecked  = "from_unchecked" // MAIL FROM is compared, From is not
	ClearPassword  = "clear_password"
	CatchAll       = "catch_all"
)

var ranks = []string{OpenRelay, ProviderRange, ProviderSigned, AnyCertificate, ClientClaims, WideNetwork, SigningAny, AnySender, NetworkSender, FromUnchecked, ClearPassword, CatchAll}

// hole notes one, once for each line.
func (d *drafting) hole(kind string, at Place, line, attack, instead, do string) {
	h := Hole{Kind: kind, At: at, Line: shown(line), Attack: printable(attack), Instead: printable(instead), Do: printable(do), rank: slices.Index(ranks, kind)}
	if once := (Hole{Kind: h.Kind, At: h.At, Line: h.Line}); !d.listed[once] {
		d.listed[once] = true
		d.plan.Holes = append(d.plan.Holes, h)
	}
}

// holes looks at every port for itself, then at OpenDKIM.
func (d *drafting) holes() {
	for _, l := range d.listeners() {
		c := d.checksOf(l.settings)
		d.openRelay(c)
		d.trusted(c)
		d.clientAccess(c)
		d.certificates(c)
		d.senders(l, c)
		d.clear(l, c)
	}
	d.xclient()
	d.catchAll()
	d.signing()
}

// restriction is an item of a list of restrictions, with its table if it takes one.
type restriction struct {
	name, argument string
	at             Place
	line           string
}

// checks are the lists of restrictions that hold at one port.
type checks struct {
	relay, recipient, sender, client []restriction
	auth                             bool
	authAt                           Place
}

func (c *checks) all() [][]restriction {
	return [][]restriction{c.client, c.sender, c.relay, c.recipient}
}

func (d *drafting) checksOf(s *Settings) checks {
	d.note("smtpd_relay_restrictions", "smtpd_recipient_restrictions", "smtpd_sender_restrictions", "smtpd_client_restrictions", "smtpd_restriction_classes", "smtpd_sasl_auth_enable")
	return checks{
		relay: restrictions(s, "smtpd_relay_restrictions"), recipient: restrictions(s, "smtpd_recipient_restrictions"),
		sender: restrictions(s, "smtpd_sender_restrictions"), client: restrictions(s, "smtpd_client_restrictions"),
		auth: s.Yes("smtpd_sasl_auth_enable"), authAt: s.Get("smtpd_sasl_auth_enable").At,
	}
}

// maxRestrictions bounds a list with its classes.
const maxRestrictions = 10_000

// restrictions reads a list; classes of one's own stand for their lists.
func restrictions(s *Settings, parameter string) (list []restriction) {
	v := s.Get(parameter)
	classes := s.List("smtpd_restriction_classes")
	items := split(v.Text)
	for i := 0; i < len(items) && len(list) < maxRestrictions; i++ {
		r := restriction{name: strings.ToLower(items[i]), at: v.At, line: parameter + " = " + v.Text}
		switch {
		case strings.HasPrefix(r.name, "check_") && i+1 < len(items):
			i++
			r.argument = items[i]
		case slices.Contains(classes, items[i]):
			class := s.Get(items[i])
			for _, name := range split(class.Text) {
				list = append(list, restriction{name: strings.ToLower(name), at: class.At, line: items[i] + " = " + class.Text})
			}
			continue
		}
		list = append(list, r)
	}
	return list
}

// has finds a restriction before any of those that stop the list.
func has(list []restriction, names, stops []string) (restriction, bool) {
	for _, r := range list {
		switch {
		case slices.Contains(names, r.name):
			return r, true
		case slices.Contains(stops, r.name):
			return restriction{}, false
		}
	}
	return restriction{}, false
}

// permits finds what lets a client relay: in the list of relaying, or, where that is
// empty, in that of recipients.
func (c *checks) permits(name string) (restriction, bool) {
	list := c.relay
	if len(list) == 0 {
		list = c.recipient
	}
	return has(list, []string{name}, nil)
}

var closing = []string{"reject_unauth_destination", "defer_unauth_destination", "reject", "defer", "defer_if_permit"}

func (d *drafting) openRelay(c checks) {
	for _, list := range [][]restriction{c.relay, c.recipient} {
		if _, closed := has(list, closing, []string{"permit"}); closed {
			return
		}
	}
	v := d.Main.Get("smtpd_relay_restrictions")
	line, at := "smtpd_relay_restrictions = "+v.Text, v.At
	if len(c.relay) > 0 {
		line, at = c.relay[0].line, c.relay[0].at
	}
	d.hole(OpenRelay, at, line,
		"Anybody on the internet could have sent mail to anybody, with any of your domains in From, and it left from your addresses, with your SPF.",
		"Who proves nothing is refused with RELAY_DENIED; no setting changes that.",
		"Close it in Postfix today: add reject_unauth_destination. Do not wait for the migration.")
}

// trusted looks at mynetworks where it lets a client relay.
func (d *drafting) trusted(c checks) {
	r, relays := c.permits("permit_mynetworks")
	if !relays {
		return
	}
	for _, n := range d.Networks {
		if !n.Not && n.Prefix.IsValid() && !loopback(n.Prefix) {
			d.network("mynetworks: "+n.Text, n.At, n.Prefix)
		}
	}
	checked := false
	for _, list := range c.all() {
		_, ok := has(list, []string{"reject_sender_login_mismatch", "reject_unauthenticated_sender_login_mismatch"}, []string{"permit_mynetworks", "permit"})
		checked = checked || ok
	}
	outside := slices.ContainsFunc(d.Networks, func(n Network) bool { return !n.Not && n.Prefix.IsValid() && !loopback(n.Prefix) })
	if !checked && outside {
		d.hole(NetworkSender, r.at, r.line,
			"Any machine in mynetworks, a printer that was taken over for example, could have sent as any address of any domain: permit_mynetworks comes before, or without, a look at the sender.",
			"An address source names the addresses it may send as, in From, Sender and MAIL FROM alike, and its organisation alone.",
			"Narrow `from` of each address source to what the machine really sends as.")
	}
}

// network tells of a network that may relay and is shared, or wide.
func (d *drafting) network(line string, at Place, p netip.Prefix) {
	switch name := sharedBy(p, wellKnown, d.wishes.Shared); {
	case name != "":
		d.hole(ProviderRange, at, line,
			fmt.Sprintf("With an account of their own at %s, anybody could have sent mail through it to this server with your domain in From: it came from a trusted address, was relayed, and signed.", name),
			"A provider's address proves nothing. A message from there needs the organisation's own tenant and a second proof; else it is refused with TENANT_NOT_AUTHORIZED or SECOND_PROOF_MISSING.",
			"Take the line out of Postfix now if you can. Find the tenant's id, and add a microsoft365 or google source (docs/microsoft365.md, docs/google.md).")
	case wide(p):
		d.hole(WideNetwork, at, line,
			fmt.Sprintf("Every machine in %s, a guest's or a neighbour's at the hosting company too, could have sent as any of your domains.", p),
			fmt.Sprintf("A source has at most a /%d of addresses (IPv6: a /%d): this network became none.", widest4, widest6),
			"Find out with `anechoic import dry-run` which machines in it send, and list those, or give them a credential.")
	}
}

// clientAccess looks at the tables of check_client_access that let somebody in.
func (d *drafting) clientAccess(c checks) {
	for _, list := range c.all() {
		for _, r := range list {
			if r.name != "check_client_access" || r.argument == "" {
				continue
			}
			for _, e := range d.files.table(r.at, r.argument).Entries {
				if p := parseNetwork(partial(e.Key)); p.IsValid() && lets(e.Value) {
					d.network("check_client_access: "+e.Key+" "+e.Value, e.At, p)
				}
			}
		}
	}
}

// partial makes a network of the first octets of an address, as access(5) has it.
func partial(key string) string {
	dots := strings.Count(key, ".")
	if key == "" || strings.Trim(key, "0123456789.") != "" || dots >= 3 || strings.HasSuffix(key, ".") {
		return key
	}
	return key + strings.Repeat(".0", 3-dots) + fmt.Sprintf("/%d", 8*(dots+1))
}

// lets says that an action of access(5) lets a client pass.
func lets(action string) bool {
	word, _ := cutSpace(strings.ToLower(action))
	return word == "ok" || strings.HasPrefix(word, "permit") || word != "" && strings.Trim(word, "0123456789") == ""
}

func (d *drafting) certificates(c checks) {
	for _, list := range c.all() {
		if r, ok := has(list, []string{"permit_tls_all_clientcerts"}, nil); ok {
			d.hole(AnyCertificate, r.at, r.line,
				"Anybody with a certificate of any authority the server trusts could have relayed; everybody can get such a certificate.",
				"A certificate counts by its key: a source lists the keys of its clients.",
				"Write a source of kind certificate for each client that uses one (docs/applications.md).")
		}
	}
}

// senders looks at what a user who logged in may send as.
func (d *drafting) senders(l listener, c checks) {
	r, relays := c.permits("permit_sasl_authenticated")
	if !relays || !c.auth {
		return
	}
	compared := false
	for _, list := range c.all() {
		_, ok := has(list, []string{"reject_sender_login_mismatch", "reject_authenticated_sender_login_mismatch"}, []string{"permit_sasl_authenticated", "permit"})
		compared = compared || ok
	}
	maps := d.Main.Get("smtpd_sender_login_maps")
	switch {
	case !compared || maps.Text == "":
		at, line := r.at, "permit_sasl_authenticated, and smtpd_sender_restrictions = "+l.settings.Get("smtpd_sender_restrictions").Text
		if l.service.At.File != "" {
			at, line = l.service.At, "service "+l.service.Name+": "+line
		}
		d.hole(AnySender, at, line,
			"Whoever has the password of one user, a scanner's for example, could have sent as any address of any of your domains.",
			"A credential may send as the addresses under its `from`, in From, Sender and MAIL FROM; a user of whom nobody said as what is not in the registry.",
			"Decide for each user that is listed as undecided below.")
	default:
		d.hole(FromUnchecked, maps.At, "smtpd_sender_login_maps = "+maps.Text,
			"Only MAIL FROM is compared. Whoever has one user's password could have written ceo@ one of your domains in From, beside a MAIL FROM of the user's own; the reader sees From, and OpenDKIM signs by it.",
			"From is compared, as are Sender, Resent fields and MAIL FROM.",
			"Nothing; look in the week of learning for users who send in others' names.")
	}
}

// clear finds passwords in clear.
func (d *drafting) clear(l listener, c checks) {
	level := strings.ToLower(l.settings.Get("smtpd_tls_security_level").Text)
	if !c.auth || l.settings.Yes("smtpd_tls_auth_only") || l.settings.Yes("smtpd_tls_wrappermode") || level == "encrypt" {
		return
	}
	d.hole(ClearPassword, c.authAt, "smtpd_sasl_auth_enable = yes, and smtpd_tls_auth_only = no ("+l.service.Name+")",
		"Whoever can listen on the network between a client and the server could have read a password, and sent with it.",
		"AUTH is offered inside TLS alone.",
		"Clients that log in without TLS have to be set up anew; their passwords may be known: give new ones.")
}

// xclient looks at who may say that it is somebody else.
func (d *drafting) xclient() {
	for _, name := range []string{"smtpd_authorized_xclient_hosts", "smtpd_authorized_xforward_hosts"} {
		v := d.Main.Get(name)
		for _, n := range d.files.networks(v.At, split(v.Text), 0) {
			if n.Not || !n.Prefix.IsValid() || loopback(n.Prefix) || name == "smtpd_authorized_xforward_hosts" && !wide(n.Prefix) {
				continue
			}
			d.hole(ClientClaims, n.At, name+": "+n.Text,
				"Whoever sends from there could have claimed any client address, and with XCLIENT any login, and so whatever that one may.",
				"The address of a client is that of its connection, or what a balancer of proxy_protocol_from says on a port of its own.",
				"Use listen_proxy for balancers; leave the rest out.")
		}
	}
}

func (d *drafting) catchAll() {
	if v := d.Main.Get("luser_relay"); v.Text != "" {
		d.catch(v.At, "luser_relay = "+v.Text)
	}
	if v, ok := d.Main.written("local_recipient_maps"); ok && strings.TrimSpace(v.Text) == "" {
		d.catch(v.At, "local_recipient_maps =")
	}
	for _, t := range d.files.tables(d.Main, "virtual_alias_maps") {
		for _, e := range t.Entries {
			if strings.HasPrefix(e.Key, "@") {
				d.catch(e.At, "virtual_alias_maps: "+e.Key+" "+e.Value)
			}
		}
	}
}

func (d *drafting) catch(at Place, line string) {
	d.hole(CatchAll, at, line,
		"Mail to any made-up address was taken, and what was forwarded or bounced of it left from your addresses: strangers' mail with your SPF.",
		"Inbound mail is for listed domains, and on request for listed recipients; it leaves unsigned, from addresses in no organisation's SPF record.",
		"Write recipients_file or recipients = \"ask\" for inbound routes.")
}

// signing looks at whom OpenDKIM signs for.
func (d *drafting) signing() {
	if d.DKIM == nil {
		return
	}
	for _, e := range d.DKIM.Signing {
		if signed(e, d.DKIM.Wildcard) == "" {
			d.hole(SigningAny, e.At, "SigningTable: "+e.Key+" "+e.Value,
				"Mail of any machine in InternalHosts, or of any user, was signed whatever stood in From: one customer's mail as another's, or a stranger's that came through a trusted provider.",
				"The signing domain comes from the organisation that was proven, never from the message.",
				"Nothing for domains that are in the registry; add those that only this line covered.")
		}
	}
	for _, list := range []struct {
		name    string
		entries []Entry
	}{{"InternalHosts", d.DKIM.Internal}, {"ExternalIgnoreList", d.DKIM.External}, {"PeerList", d.DKIM.Peers}} {
		for _, e := range list.entries {
			d.signedHost(list.name, e)
		}
	}
}

func (d *drafting) signedHost(list string, e Entry) {
	p := parseNetwork(e.Key)
	if !p.IsValid() || loopback(p) {
		return
	}
	name := sharedBy(p, wellKnown, d.wishes.Shared)
	switch {
	case list == "InternalHosts" && name != "":
		d.hole(ProviderSigned, e.At, list+": "+e.Key,
			fmt.Sprintf("Mail of any customer of %s with your domain in From got your DKIM signature, and passed DMARC: this is the attack of 2024.", name),
			"Nothing is signed but what an organisation proved to be its own.",
			"Take the line out of OpenDKIM now. Add the customer's tenant as a source.")
	case list == "InternalHosts" && wide(p):
		d.hole(WideNetwork, e.At, list+": "+e.Key,
			fmt.Sprintf("Mail of every machine in %s was signed with whatever domain of yours stood in From.", p),
			"Nothing is signed but what an organisation proved to be its own.",
			"List the machines that send as address sources.")
	case list != "InternalHosts" && name != "":
		d.hole(ProviderSigned, e.At, list+": "+e.Key,
			fmt.Sprintf("Mail of any customer of %s in your name passed OpenDKIM without a trace in its log.", name),
			"Mail in an organisation's name that proves nothing is refused, and stands in the ledger with its reason.",
			"Look at `anechoic source seen` to learn who they are.")
	}
}
