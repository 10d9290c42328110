package migrate

import (
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
)

// owners reads smtpd_sender_login_maps: which login may send as what.
func (d *drafting) owners() {
	d.owned = make(map[string][]pattern)
	d.note("smtpd_sender_login_maps")
	for _, t := range d.files.tables(d.Main, "smtpd_sender_login_maps") {
		for _, e := range t.Entries {
			p, ok := d.ownedBy(e)
			if !ok {
				d.openMaps = append(d.openMaps, e)
				continue
			}
			d.evidence = append(d.evidence, evidence{p.domain, e.At, true})
			for _, login := range split(e.Value) {
				if d.owned[login] == nil {
					d.logins = append(d.logins, login)
				}
				d.owned[login] = append(d.owned[login], p)
			}
		}
	}
}

// ownedBy reads the key of a sender_login_maps entry: user@domain, @domain, or user in
// the domain of myorigin (postconf(5)).
func (d *drafting) ownedBy(e Entry) (pattern, bool) {
	key := strings.ToLower(e.Key)
	if e.Pattern || key == "" || strings.Contains(key, "*") {
		return pattern{}, false
	}
	local, name, ok := strings.Cut(key, "@")
	if !ok {
		name = d.Main.Get("myorigin").Text
	}
	domain, valid := ownable(name)
	if !valid {
		return pattern{}, false
	}
	if local == "" {
		return pattern{"*@" + domain.String(), domain, e.At}, true
	}
	a, err := mail.ParseAddressUTF8(local + "@" + domain.String())
	return pattern{a.String(), domain, e.At}, err == nil
}

// providerNames end the names that Microsoft gives its tenants: no organisation can
// prove them.
var providerNames = []string{"onmicrosoft.com", "onmicrosoft.us", "onmicrosoft.de", "partner.onmschina.cn"}

// ownable reads a domain that an organisation can own and prove.
func ownable(s string) (mail.Domain, bool) {
	name, err := mail.ParseDomain(strings.TrimSuffix(s, "."))
	if err != nil || name.IsPublicSuffix() {
		return name, false
	}
	return name, !slices.ContainsFunc(providerNames, func(suffix string) bool {
		return name.String() == suffix || strings.HasSuffix(name.String(), "."+suffix)
	})
}

// gather collects every domain that the old configuration treats as its own.
func (d *drafting) gather() {
	if d.DKIM != nil {
		for _, k := range d.DKIM.Keys {
			d.saw(k.Domain, k.At, true)
		}
		for _, e := range d.DKIM.Signing {
			d.saw(signed(e, d.DKIM.Wildcard), e.At, true)
		}
	}
	for _, name := range []string{"relay_domains", "virtual_mailbox_domains", "virtual_alias_domains"} {
		for _, n := range d.domainList(name) {
			d.saw(n.Key, n.At, false)
		}
	}
	for _, c := range d.wishes.Organisations {
		for _, item := range c.Items {
			d.saw(item, Place{File: "--organisation " + c.ID}, true)
		}
	}
	if len(d.evidence) == 0 {
		at := d.Main.Get("mydomain").At
		if at.File == "" {
			at = d.Main.Get("myhostname").At
		}
		d.saw(d.Main.Get("mydomain").Text, at, false)
	}
}

func (d *drafting) saw(name string, at Place, owner bool) {
	if domain, ok := ownable(name); ok {
		d.evidence = append(d.evidence, evidence{domain, at, owner})
	}
}

// domainList reads a list of domains: names, files of names, tables whose keys are names.
func (d *drafting) domainList(parameter string) (list []Entry) {
	v := d.get(parameter)
	for _, item := range split(v.Text) {
		switch {
		case strings.HasPrefix(item, "!"):
		case strings.HasPrefix(item, "/"):
			text, _ := d.files.read(v.At, item)
			for _, l := range logicalLines(text) {
				for _, name := range split(l.text) {
					list = append(list, Entry{Key: name, At: Place{item, l.number}})
				}
			}
		case isTable(item):
			list = append(list, d.files.table(v.At, item).Entries...)
		default:
			list = append(list, Entry{Key: item, At: v.At})
		}
	}
	return list
}

// organise tells organisations apart: as a person said; else domains of one login, and
// names above and below each other, are one organisation's. Where nothing says who
// sends as what, all domains are one organisation's.
func (d *drafting) organise() {
	d.gather()
	groups := d.groups()
	for _, c := range d.wishes.Organisations {
		o := &Organisation{ID: c.ID, Why: "named by --organisation"}
		d.plan.Organisations = append(d.plan.Organisations, o)
		for _, item := range c.Items {
			if name, ok := ownable(item); ok {
				d.give(o, name)
			}
		}
		if slices.Contains(c.Items, "*") {
			for _, group := range groups {
				for _, name := range group {
					if !d.named(name) {
						d.give(o, name)
					}
				}
			}
		}
	}
	for _, group := range groups {
		d.found(group)
	}
}

// named says that some --organisation lists the domain.
func (d *drafting) named(name mail.Domain) bool {
	return slices.ContainsFunc(d.wishes.Organisations, func(c Choice) bool {
		return slices.ContainsFunc(c.Items, func(item string) bool {
			n, ok := ownable(item)
			return ok && n == name
		})
	})
}

// found makes an organisation of what is left of a group.
func (d *drafting) found(group []mail.Domain) {
	group = slices.DeleteFunc(slices.Clone(group), func(name mail.Domain) bool { return d.byDomain[name] != nil })
	if len(group) == 0 {
		return
	}
	shortest := slices.MinFunc(group, func(a, b mail.Domain) int {
		if len(a.String()) != len(b.String()) {
			return len(a.String()) - len(b.String())
		}
		return strings.Compare(a.String(), b.String())
	})
	o := &Organisation{ID: d.freeID(shortest.String()), Why: "its domain is kept apart from the others"}
	switch {
	case !d.told():
		o.Why = "nothing says who sends as which domain: they are taken as one organisation's"
	case len(group) > 1:
		o.Why = "one login sends as these domains, or they are above and below each other"
	}
	d.plan.Organisations = append(d.plan.Organisations, o)
	for _, name := range group {
		d.give(o, name)
	}
}

// told says that something tells who sends as what.
func (d *drafting) told() bool {
	return slices.ContainsFunc(d.evidence, func(e evidence) bool { return e.owner })
}

// give makes a domain an organisation's; the first that gets it keeps it.
func (d *drafting) give(o *Organisation, name mail.Domain) {
	if d.byDomain[name] != nil {
		return
	}
	d.byDomain[name] = o
	o.Domains = append(o.Domains, &Domain{Name: name, At: d.whence(name)})
}

func (d *drafting) whence(name mail.Domain) Place {
	for _, e := range d.evidence {
		if e.domain == name {
			return e.at
		}
	}
	return Place{}
}

// groups are the domains that belong together, in order of their names.
func (d *drafting) groups() (groups [][]mail.Domain) {
	u := union{}
	for _, e := range d.evidence {
		u.add(e.domain)
	}
	names := u.names()
	if !d.told() {
		return [][]mail.Domain{names}
	}
	for _, name := range names {
		for above := name.Parent(); !above.IsZero(); above = above.Parent() {
			if _, ok := u[above]; ok {
				u.join(name, above)
			}
		}
	}
	for _, login := range d.logins {
		for _, p := range d.owned[login] {
			u.join(d.owned[login][0].domain, p.domain)
		}
	}
	index := make(map[mail.Domain]int)
	for _, name := range names {
		root := u.find(name)
		i, ok := index[root]
		if !ok {
			i = len(groups)
			index[root], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], name)
	}
	return groups
}

// union joins domains to groups.
type union map[mail.Domain]mail.Domain

func (u union) add(name mail.Domain) {
	if _, ok := u[name]; !ok {
		u[name] = name
	}
}

func (u union) find(name mail.Domain) mail.Domain {
	for u[name] != name {
		u[name] = u[u[name]]
		name = u[name]
	}
	return name
}

func (u union) join(a, b mail.Domain) { u[u.find(a)] = u.find(b) }

func (u union) names() (names []mail.Domain) {
	for name := range u {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b mail.Domain) int { return strings.Compare(a.String(), b.String()) })
	return names
}

// maxID is how long an id may be.
const maxID = 63

// freeID makes an organisation's id of its domain's first label.
func (d *drafting) freeID(domain string) string {
	label, _, _ := strings.Cut(domain, ".")
	return free(idOf(label), func(id string) bool {
		taken := func(o *Organisation) bool { return o.ID == id }
		chosen := func(c Choice) bool { return c.ID == id }
		return slices.ContainsFunc(d.plan.Organisations, taken) || slices.ContainsFunc(d.wishes.Organisations, chosen)
	})
}

// idOf makes 1 to 63 of a-z, 0-9 and - of a name.
func idOf(name string) string {
	id := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name)), "-")
	if id == "" {
		return "source"
	}
	return strings.TrimRight(id[:min(len(id), maxID-8)], "-")
}

// free adds a number to an id that is taken.
func free(id string, taken func(string) bool) string {
	for try, n := id, 2; ; n++ {
		if !taken(try) {
			return try
		}
		try = fmt.Sprintf("%s-%d", id, n)
	}
}

// ValidID says that an id can stand in the registry.
func ValidID(id string) bool {
	return id != "" && len(id) <= maxID && id[0] != '-' && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
