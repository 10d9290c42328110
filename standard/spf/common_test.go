package spf

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/mail/dns"
)

var errTimeout = errors.New("timeout")

// zone is DNS as the suites of openspf write it: at each name a list of records,
// each {"TYPE": value}, or the word TIMEOUT, by which every type that does not
// stand before it fails. Names are in lower case.
type zone map[string][]zoneRecord

type zoneRecord struct {
	rrtype  string // "" for TIMEOUT
	text    string
	mx      mail.MX
	timeout bool
}

// UnmarshalJSON reads one entry of the list.
func (r *zoneRecord) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"TIMEOUT"`, `{"TIMEOUT":true}`, `{"SERVFAIL":true}`, `{"CNAMELOOP":true}`:
		r.timeout = true
		return nil
	}
	var one map[string]json.RawMessage
	if err := json.Unmarshal(b, &one); err != nil || len(one) != 1 {
		return errors.New("not one record: " + string(b))
	}
	for rrtype, value := range one {
		r.rrtype = rrtype
		var pieces []string
		var mx []any
		switch {
		case rrtype == "MX" && json.Unmarshal(value, &mx) == nil:
			r.mx = mail.MX{Preference: uint16(mx[0].(float64)), Host: mx[1].(string)}
		case json.Unmarshal(value, &r.text) == nil:
		case json.Unmarshal(value, &pieces) == nil:
			r.text = strings.Join(pieces, "")
		default:
			return errors.New("not a value: " + string(b))
		}
	}
	if r.text == "TIMEOUT" {
		r.timeout = true
	}
	return nil
}

// prepare reads names in any case and makes TXT records of SPF records where a name
// has no TXT of its own, as the suites ask.
func (z zone) prepare() zone {
	out := zone{}
	for name, list := range z {
		own := false
		for _, r := range list {
			own = own || r.rrtype == "TXT"
		}
		var kept []zoneRecord
		for _, r := range list {
			if r.rrtype == "SPF" {
				if own {
					continue
				}
				r.rrtype = "TXT"
			}
			if r.text != "NONE" {
				kept = append(kept, r)
			}
		}
		out[strings.ToLower(name)] = kept
	}
	return out
}

// lookup gives the records of one type.
func (z zone) lookup(name, rrtype string) (found []zoneRecord, err error) {
	list, ok := z[strings.ToLower(name)]
	if !ok {
		return nil, mail.ErrNoDomain
	}
	for _, r := range list {
		switch {
		case r.rrtype == rrtype && r.timeout, r.rrtype == "" && len(found) == 0:
			return nil, errTimeout
		case r.rrtype == rrtype:
			found = append(found, r)
		case r.rrtype == "CNAME":
			return z.lookup(strings.TrimSuffix(r.text, "."), rrtype)
		}
	}
	return found, nil
}

func (z zone) texts(name, rrtype string) (mail.Answer[string], error) {
	found, err := z.lookup(name, rrtype)
	var a mail.Answer[string]
	for _, r := range found {
		a.Records = append(a.Records, strings.TrimSuffix(r.text, "."))
		if rrtype == "TXT" {
			a.Records[len(a.Records)-1] = r.text
		}
	}
	return a, err
}

func (z zone) TXT(_ context.Context, name string) (mail.Answer[string], error) {
	return z.texts(name, "TXT")
}

func (z zone) PTR(_ context.Context, ip netip.Addr) (mail.Answer[string], error) {
	return z.texts(dns.ReverseName(ip), "PTR")
}

func (z zone) MX(_ context.Context, name string) (a mail.Answer[mail.MX], err error) {
	found, err := z.lookup(name, "MX")
	for _, r := range found {
		a.Records = append(a.Records, r.mx)
	}
	return a, err
}

func (z zone) Addresses(_ context.Context, name string) (a mail.Answer[netip.Addr], err error) {
	for _, rrtype := range []string{"A", "AAAA"} {
		found, err := z.lookup(name, rrtype)
		if err != nil {
			return mail.Answer[netip.Addr]{}, err
		}
		for _, r := range found {
			a.Records = append(a.Records, netip.MustParseAddr(r.text))
		}
	}
	return a, nil
}

func (zone) CNAME(context.Context, string) (mail.Answer[string], error)   { panic("not asked") }
func (zone) TLSA(context.Context, string) (mail.Answer[mail.TLSA], error) { panic("not asked") }

// shared finds a folder beside the project, or where env says.
func shared(t testing.TB, env, name string) string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", name)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is not there: set %s to the folder of %s", dir, env, name)
	}
	return dir
}
