package config

import (
	"net/netip"
	"os"
	"strings"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/delivery"
)

// EgressPool is addresses that mail of the organisations which name it leaves
// from.
type EgressPool struct {
	Name    string
	HELO    mail.Domain // zero: Delivery.HELO
	Sources []EgressSource
}

// EgressSource is one of them.
type EgressSource struct {
	Address netip.Addr
	HELO    mail.Domain // zero: the pool's
	Weight  int
}

// DefaultPool is the name of what delivery.bind lists.
const DefaultPool = "default"

// Bounds of [[delivery.egress]].
const (
	maxPoolName = 63
	maxWeight   = 1000
)

type egressTable struct {
	Name    string              `toml:"name"`
	HELO    string              `toml:"helo"`
	Sources []egressSourceTable `toml:"source"`
}

type egressSourceTable struct {
	Address string `toml:"address"`
	HELO    string `toml:"helo"`
	Weight  *int   `toml:"weight"`
}

// egress checks the pools.
func (c *checker) egress(tables []egressTable) (pools []EgressPool) {
	names := map[string]bool{DefaultPool: true}
	for i, t := range tables {
		where := element("delivery.egress", i)
		p := EgressPool{Name: t.Name, HELO: c.domain(where+".helo", t.HELO)}
		switch {
		case !isPoolName(t.Name):
			c.refuse(where+".name", "1 to 63 of a-z, 0-9 and -, not - first", "%q is no name of a pool", t.Name)
		case t.Name == DefaultPool:
			c.refuse(where+".name", "list its addresses in delivery.bind", "%q is the pool of organisations that name none", t.Name)
		case names[t.Name]:
			c.refuse(where+".name", "one table each, with all its addresses", "there are two pools %q", t.Name)
		}
		names[t.Name] = true
		if len(t.Sources) == 0 {
			c.refuse(where, `source = [ { address = "192.0.2.10" } ]`, "the pool has no address")
		}
		for j := range t.Sources {
			p.Sources = append(p.Sources, c.egressSource(element(where+".source", j), &t.Sources[j]))
		}
		pools = append(pools, p)
	}
	return pools
}

func (c *checker) egressSource(where string, t *egressSourceTable) EgressSource {
	s := EgressSource{HELO: c.domain(where+".helo", t.HELO), Weight: 1}
	if a, err := netip.ParseAddr(t.Address); err != nil || !canBeEgress(a) {
		c.refuse(where+".address", "an address of this machine, without length or port", "%q is no address to send from", t.Address)
	} else {
		s.Address = a.Unmap()
	}
	if t.Weight != nil {
		s.Weight = c.number(where+".weight", *t.Weight, 1, maxWeight)
	}
	return s
}

func canBeEgress(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

func isPoolName(s string) bool {
	return s != "" && len(s) <= maxPoolName && s[0] != '-' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// egressTexts lists the addresses of all pools with their places.
func egressTexts(tables []egressTable) (list []placed) {
	for i := range tables {
		for j := range tables[i].Sources {
			list = append(list, placed{element(element("delivery.egress", i)+".source", j) + ".address", tables[i].Sources[j].Address})
		}
	}
	return list
}

// placed is a text with the path of where it stands.
type placed struct{ where, text string }

func (d Delivery) egressTables() (tables []egressTable) {
	for _, p := range d.Pools {
		t := egressTable{Name: p.Name, HELO: p.HELO.String()}
		for _, s := range p.Sources {
			t.Sources = append(t.Sources, egressSourceTable{Address: s.Address.String(), HELO: s.HELO.String(), Weight: &s.Weight})
		}
		tables = append(tables, t)
	}
	return tables
}

// Egress is all addresses this relay sends from, as far as they are configured.
func (c Config) Egress() (all []netip.Addr) {
	all = append(append(append(all, c.Delivery.Bind...), c.Inbound.Bind...), c.Disowned.Bind...)
	for _, p := range c.Delivery.Pools {
		for _, s := range p.Sources {
			all = append(all, s.Address)
		}
	}
	return all
}

// unknownPools tells of organisations whose mail would have nowhere to leave
// from.
func (c Config) unknownPools(reg *org.Registry) (problems []org.Problem) {
	known := map[string]bool{"": true, DefaultPool: true}
	for _, p := range c.Delivery.Pools {
		known[p.Name] = true
	}
	for i := range reg.Organisations {
		if name := reg.Organisations[i].Egress; !known[name] {
			problems = append(problems, org.Problem{
				Where:   element("organisation", i) + ".egress",
				Message: "the node's configuration has no egress pool \"" + name + "\"",
				Hint:    "name a [[delivery.egress]] of relay.toml, or leave it out for the default pool",
			})
		}
	}
	return problems
}

// Shaping reads the shaping file that the configuration names, or gives what is
// built in. With a problem there is none.
func (c Config) Shaping() (*delivery.Shaping, []org.Problem) {
	name := c.Delivery.Shaping
	if name == "" {
		return delivery.BuiltinShaping(), nil
	}
	text, err := readShaping(name)
	if err != nil {
		return nil, []org.Problem{{File: name, Message: "the shaping file cannot be read: " + err.Error(), Hint: "check delivery.shaping in the configuration and who may read the file"}}
	}
	return delivery.ParseShaping(name, text)
}

func readShaping(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		err = &os.PathError{Op: "read", Path: name, Err: os.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}
