package org

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

// today is a day on which the examples' dates lie ahead.
var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// shared is what the tests say of providers: a range each, and a doubtful pool.
var shared = Providers{
	Microsoft365: Provider{Ranges: prefixList("40.92.0.0/15", "40.107.0.0/16", "2a01:111:f403::/48"), Exclude: prefixList("40.95.0.0/16")},
	Google:       Provider{Ranges: prefixList("209.85.128.0/17", "2607:f8b0:4000::/36")},
}

// ours is the addresses this relay sends from in the tests.
var ours = []netip.Addr{netip.MustParseAddr("198.51.100.200"), netip.MustParseAddr("2001:db8:feed::1")}

func prefixList(list ...string) (prefixes []netip.Prefix) {
	for _, s := range list {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	return prefixes
}

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// contract finds the registry that every version must load as it stands.
func contract(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	path := filepath.Join(root, "..", "shared", "contract", "registry.toml")
	if _, err := os.Stat(path); err != nil {
		t.Skip("the contract's examples are not here: set them beside the project, in ../shared/contract")
	}
	return path
}

func build(t testing.TB, text string) *Directory {
	t.Helper()
	reg, _ := ParseRegistry("registry.toml", []byte(text))
	d, problems, _ := Build(reg, shared, ours, 1, today)
	for _, p := range problems {
		t.Error(p)
	}
	if d == nil {
		t.FailNow()
	}
	return d
}

func TestContractRegistryLoadsAsItStands(t *testing.T) {
	reg, problems := ReadRegistry(contract(t))
	d, more, findings := Build(reg, shared, ours, 7, today)
	for _, p := range append(problems, more...) {
		t.Error(p)
	}
	if len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
	if d == nil {
		t.FailNow()
	}
	t.Logf("%+v", *d.organisations[0].Sources[0])
}

func TestPrefixesAreOfOneOwner(t *testing.T) {
	for _, s := range []string{"10.0.0.0/8", "2001:db8::/32", "fc00::/7", "fd00::/8", "fe80::/10", "fe80::/64", "fe80::/16"} {
		if _, err := ParsePrefix(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"0.0.0.0/7": "/8", "::/0": "fe80::/10", "2001::/16": "fc00::/7", "fe00::/9": "too wide", "f800::/6": "too wide",
		"10.0.0.1": "10.0.0.1/32", "fe80::1/64": "fe80::/64", "fe80::1%eth0": "no prefix", "::ffff:10.0.0.0/104": "IPv4",
	} {
		if _, err := ParsePrefix(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something of %q", s, err, want)
		}
	}
}
