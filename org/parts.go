package org

import (
	"hash/maphash"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org/document"
)

// How Build divides its work. Organisations are read in parts, the parts side by
// side; what they claim goes into the look-ups afterwards, the look-ups side by
// side, in the order of the organisations, so that "the first" who claimed
// something is the same however the work was divided:
//
//	parts: organisations, their domains ─► domains ─► parts: sources, inbound ─► every other look-up
//
// All of it runs once without the places of problems, which take longer to write
// than all else, and once more with them if there is a problem.

// partSize is how many organisations are a part.
const partSize = 512

// making is what the parts of one Build have in common. While parts are read nothing
// in it changes.
type making struct {
	reg    *Registry
	dir    *Directory
	now    time.Time
	shared []netip.Prefix // every provider's addresses, those of its doubtful pool too
	places bool           // problems are told with their places
}

// builder makes one part of a Directory, or one of its look-ups, and collects what
// is wrong on the way.
type builder struct {
	*making
	first, end int // the organisations of the part
	problems   []Problem
	findings   []Finding

	domains [domainShards][]*Domain
	claims  claims
}

// claims is what the sources of a part say is theirs.
type claims struct {
	tenants       []claim[string, *Source]
	originators   []claim[mail.Domain, *Source]
	providerNames []claim[mail.Domain, *Source]
	usernames     []claim[string, *Source]
	clientKeys    []claim[[32]byte, *Source]
	secrets       []claim[[32]byte, *Source]
	identities    []claim[identity, *Source]
	inbound       []claim[mail.Domain, *Inbound]
	returnPaths   []claim[mail.Domain, *Organisation]
	addresses     []claimedPrefix // of kind address, and hybrid servers
}

// claim says that something is somebody's; where it stands is known only to a build
// with places.
type claim[K comparable, V any] struct {
	key   K
	by    V
	where string
}

// run builds once.
func (c *making) run(partSize int) (*Directory, []Problem, []Finding) {
	var parts []*builder
	for from := 0; from < len(c.reg.Organisations); from += partSize {
		parts = append(parts, &builder{making: c, first: from, end: min(from+partSize, len(c.reg.Organisations))})
	}
	c.dir.organisations = make([]*Organisation, len(c.reg.Organisations))
	sideBySide(len(parts), func(i int) { parts[i].organisations() })
	lookups := c.indexDomains(parts)
	sideBySide(len(parts), func(i int) { parts[i].waysIn() }) // asks whose a domain is
	lookups = append(lookups, c.indexClaims(parts)...)
	lookups = append(lookups, c.indexReturnPaths(parts))
	var problems []Problem
	var findings []Finding
	for _, b := range slices.Concat(parts, lookups) {
		problems, findings = append(problems, b.problems...), append(findings, b.findings...)
	}
	slices.SortFunc(c.dir.organisations, func(x, y *Organisation) int { return strings.Compare(string(x.ID), string(y.ID)) })
	return c.dir, problems, findings
}

// sideBySide calls work for each number below n, as many at a time as there are
// processors, and waits for all.
func sideBySide(n int, work func(i int)) {
	var next atomic.Int64
	var all background.Group
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				work(i)
			}
		})
	}
	all.Wait()
}

// organisations reads the organisations of a part, and their domains.
func (b *builder) organisations() {
	for i := b.first; i < b.end; i++ {
		b.dir.organisations[i] = b.organisation(i)
	}
}

// waysIn reads the sources, inbound routes and ways back of a part's organisations.
func (b *builder) waysIn() {
	for i := b.first; i < b.end; i++ {
		b.sources(i)
		b.inbounds(i)
		b.returns(i)
		b.screening(i)
		b.held(i)
		b.response(i)
		b.webhooks(i)
	}
}

// domainShards is how many look-ups the domains are divided into, so that they can
// be filled side by side: most of a Directory is domains.
const domainShards = 16

// domainIndex finds domains by name.
type domainIndex struct {
	seed   maphash.Seed
	shards [domainShards]map[mail.Domain]*Domain
}

func (x *domainIndex) shard(name mail.Domain) int {
	return int(maphash.Comparable(x.seed, name) % domainShards)
}

func (x *domainIndex) get(name mail.Domain) (*Domain, bool) {
	if x.seed == (maphash.Seed{}) {
		return nil, false // the zero Directory's
	}
	d, ok := x.shards[x.shard(name)][name]
	return d, ok
}

// indexDomains fills the look-up of domains, and gives what was wrong.
func (c *making) indexDomains(parts []*builder) []*builder {
	told := make([]*builder, domainShards)
	sideBySide(domainShards, func(i int) {
		b := &builder{making: c}
		told[i] = b
		c.dir.domains.shards[i] = index(b, collect(parts, func(p *builder) []*Domain { return p.domains[i] }),
			func(d *Domain) (mail.Domain, *Domain) { return d.Name, d },
			func(d, first *Domain) {
				b.second(b.path(d.entry, "domain")+".name", first.where()+".name", "domain %s is organisation %s's already", d.Name, first.Organisation)
			})
	})
	return told
}

// collect joins what each part has.
func collect[T any](parts []*builder, of func(*builder) []T) []T {
	lists := make([][]T, len(parts))
	for i, p := range parts {
		lists[i] = of(p)
	}
	return slices.Concat(lists...)
}

// index makes a look-up in which everything has one owner: again is told each
// second claim, with the first.
func index[T any, K comparable, V any](b *builder, list []T, entry func(T) (K, V), again func(claim T, first V)) map[K]V {
	found := make(map[K]V, len(list))
	for _, c := range list {
		key, value := entry(c)
		before := len(found)
		if b.places {
			if first, taken := found[key]; taken {
				again(c, first)
				continue
			}
		}
		found[key] = value
		if !b.places && len(found) == before {
			b.refuse("", "", "a second claim") // the build with places says what
		}
	}
	return found
}

// indexed is index of claims.
func indexed[K comparable, V any](b *builder, parts []*builder, of func(*claims) []claim[K, V], again func(c claim[K, V], first V)) map[K]V {
	return index(b, collect(parts, func(p *builder) []claim[K, V] { return of(&p.claims) }),
		func(c claim[K, V]) (K, V) { return c.key, c.by }, again)
}

// indexClaims fills every look-up but that of domains, and gives what was wrong.
func (c *making) indexClaims(parts []*builder) []*builder {
	lookups := []func(*builder, []*builder){
		(*builder).indexOrganisations, (*builder).indexSources, (*builder).indexUsernames, (*builder).indexTenants,
		(*builder).indexOriginators, (*builder).indexProviderNames, (*builder).indexClientKeys, (*builder).indexSecrets,
		(*builder).indexIdentities, (*builder).indexInbound, (*builder).indexAddresses,
	}
	told := make([]*builder, len(lookups))
	sideBySide(len(lookups), func(i int) {
		told[i] = &builder{making: c}
		lookups[i](told[i], parts)
	})
	return told
}

func (b *builder) indexOrganisations([]*builder) {
	b.dir.byID = index(b, b.dir.organisations,
		func(o *Organisation) (ID, *Organisation) { return o.ID, o },
		func(o, first *Organisation) {
			at := func(o *Organisation) string { return below("organisation", slices.Index(b.dir.organisations, o)) }
			b.second(at(o)+".id", at(first), "organisation %q is there already", o.ID)
		})
}

func (b *builder) indexSources([]*builder) {
	var all []*Source
	for _, o := range b.dir.organisations {
		all = append(all, o.Sources...)
	}
	b.dir.sources = index(b, all,
		func(s *Source) (sourceName, *Source) { return sourceName{s.Organisation, s.ID}, s },
		func(s, first *Source) {
			b.second(s.where()+".id", first.where()+".id", "source %q of organisation %s is there already", s.ID, s.Organisation)
		})
}

// indexUsernames compares without regard to case, and looks up with it.
func (b *builder) indexUsernames(parts []*builder) {
	all := collect(parts, func(p *builder) []claim[string, *Source] { return p.claims.usernames })
	index(b, all,
		func(c claim[string, *Source]) (string, *Source) { return strings.ToLower(c.key), c.by },
		func(c claim[string, *Source], first *Source) {
			b.second(c.where, first.where()+".username", "user name %q is source %s of organisation %s already", c.key, first.ID, first.Organisation)
		})
	b.dir.usernames = make(map[string]*Source, len(all))
	for _, c := range all {
		b.dir.usernames[c.key] = c.by
	}
}

func (b *builder) indexTenants(parts []*builder) {
	b.dir.tenants = indexed(b, parts, func(c *claims) []claim[string, *Source] { return c.tenants },
		func(c claim[string, *Source], first *Source) {
			b.second(c.where, first.where()+".tenant_ids", "tenant %s is source %s of organisation %s already", c.key, first.ID, first.Organisation)
		})
}

// indexOriginators lets several sources of one organisation list the same name.
func (b *builder) indexOriginators(parts []*builder) {
	all := collect(parts, func(p *builder) []claim[mail.Domain, *Source] { return p.claims.originators })
	b.dir.originators = make(map[mail.Domain]*Source, len(all))
	for _, c := range all {
		if first, taken := b.dir.originators[c.key]; taken && first.Organisation != c.by.Organisation {
			b.second(c.where, first.where()+".originator_orgs", "originator organisation %s is source %s of organisation %s already", c.key, first.ID, first.Organisation)
			continue
		}
		b.dir.originators[c.key] = c.by
	}
}

func (b *builder) indexProviderNames(parts []*builder) {
	b.dir.providerNames = indexed(b, parts, func(c *claims) []claim[mail.Domain, *Source] { return c.providerNames },
		func(c claim[mail.Domain, *Source], first *Source) {
			b.second(c.where, first.where()+".provider_domains", "%s is source %s of organisation %s already", c.key, first.ID, first.Organisation)
		})
}

func (b *builder) indexClientKeys(parts []*builder) {
	b.dir.clientKeys = indexed(b, parts, func(c *claims) []claim[[32]byte, *Source] { return c.clientKeys },
		func(c claim[[32]byte, *Source], first *Source) {
			b.second(c.where, first.where()+".spki_sha256", "this key is source %s of organisation %s already", first.ID, first.Organisation)
		})
}

func (b *builder) indexSecrets(parts []*builder) {
	b.dir.secrets = indexed(b, parts, func(c *claims) []claim[[32]byte, *Source] { return c.secrets },
		func(c claim[[32]byte, *Source], first *Source) {
			b.second(c.where, first.where()+".secret_header", "this secret is source %s of organisation %s's already", first.ID, first.Organisation)
		})
	b.dir.secretHeaders = make(map[string]struct{})
	for _, o := range b.dir.organisations {
		for _, s := range o.Sources {
			if s.Secret != nil {
				b.dir.secretHeaders[strings.ToLower(s.Secret.Name)] = struct{}{}
			}
		}
	}
}

func (b *builder) indexIdentities(parts []*builder) {
	b.dir.identities = indexed(b, parts, func(c *claims) []claim[identity, *Source] { return c.identities },
		func(c claim[identity, *Source], first *Source) {
			b.second(c.where, first.where()+".dkim", "selector %q of %s is source %s of organisation %s already", c.key.selector, c.key.domain, first.ID, first.Organisation)
		})
}

func (b *builder) indexInbound(parts []*builder) {
	b.dir.inbound = indexed(b, parts, func(c *claims) []claim[mail.Domain, *Inbound] { return c.inbound },
		func(c claim[mail.Domain, *Inbound], first *Inbound) {
			b.second(c.where, first.where()+".domains", "mail for %s goes somewhere already", c.key)
		})
}

// indexAddresses finds addresses that two sources claim, and fills the look-up of
// those of kind address.
func (b *builder) indexAddresses(parts []*builder) {
	all := collect(parts, func(p *builder) []claimedPrefix { return p.claims.addresses })
	for _, pair := range findConflicts(all) {
		first, then := pair[0], pair[1]
		if after(first.source.entry, then.source.entry) {
			first, then = then, first
		}
		b.second(then.where, first.where, "%s overlaps %s of source %s of organisation %s", then.prefix, first.prefix, first.source.ID, first.source.Organisation)
	}
	for _, c := range all {
		if c.source.Kind == Address {
			b.dir.addresses.add(c.prefix, c.source)
		}
	}
	// The lengths most in use come first; order does not matter to the result.
	slices.Sort(b.dir.addresses.v4)
	slices.Sort(b.dir.addresses.v6)
}

func after(a, b entry) bool {
	return a.organisation > b.organisation || a.organisation == b.organisation && a.at > b.at
}

// placed gives all problems, those of the registry's form too, in file order.
func (c *making) placed(problems []Problem) []Problem {
	if c.reg.text != nil {
		problems = c.reg.text.Place(problems)
	}
	problems = slices.Concat(c.reg.faults, problems)
	document.Sort(problems)
	return problems
}
