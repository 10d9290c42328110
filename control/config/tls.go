package config

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// tlsLevels are what may be asked of next hops, least first.
var tlsLevels = []string{TLSNone, TLSOpportunistic, TLSEncrypted, TLSRequired}

// tlsDomains reads [[delivery.domain]].
func (c *checker) tlsDomains(t *deliveryTable) (domains []TLSDomain) {
	first := make(map[mail.Domain]string)
	for i, d := range t.Domains {
		at := element("delivery.domain", i)
		o := TLSDomain{Name: c.domain(at+".name", d.Name), Subdomains: d.Subdomains, TLS: c.choice(at+".tls", d.TLS, tlsLevels...)}
		if d.Name == "" {
			c.refuse(at+".name", `name = "partner.example"`, "the domain has no name")
		} else if taken, again := first[o.Name]; again && !o.Name.IsZero() {
			c.problems = append(c.problems, org.Problem{Where: at + ".name", Also: taken, Message: o.Name.String() + " is there twice", Hint: "one table a domain"})
		} else {
			first[o.Name] = at + ".name"
		}
		for j, n := range d.Names {
			o.Names = append(o.Names, c.domain(element(at+".certificate_names", j), n).String())
		}
		if len(d.Names) > 0 && d.TLS != TLSRequired {
			c.refuse(at+".certificate_names", `tls = "required", or leave the names out`, "names are compared only where a certificate is required")
		}
		domains = append(domains, o)
	}
	return domains
}

// tlsReports reads [tls_reports]. What is sent has a sender in the relay's own
// domain, never in an organisation's.
func (c *checker) tlsReports(t *tlsReportsTable, hostname string) TLSReports {
	r := TLSReports{Enabled: t.Enabled, From: c.address("tls_reports.from", t.From), Organization: t.Organization, Contact: c.address("tls_reports.contact", t.Contact), Selector: t.Selector, KeyFile: c.path(t.KeyFile)}
	host, err := mail.ParseDomain(hostname)
	if err == nil && !r.From.IsZero() && !host.Within(r.From.Domain()) {
		c.refuse("tls_reports.from", "an address in the domain of hostname, or in one above it", "%s is not the relay's own domain", r.From.Domain())
	}
	if strings.ContainsFunc(t.Organization, func(c rune) bool { return c < ' ' || c > '~' }) || len(t.Organization) > 200 {
		c.refuse("tls_reports.organization", "a short name in ASCII", "the name cannot stand in a report")
	}
	if (t.Selector == "") != (t.KeyFile == "") {
		c.refuse("tls_reports.dkim_selector", "set dkim_selector and dkim_key_file, or neither", "one half of a key is missing")
	}
	if t.Selector != "" {
		c.domain("tls_reports.dkim_selector", t.Selector)
	}
	if _, err := r.Key(); err != nil {
		c.refuse("tls_reports.dkim_key_file", "a PKCS#8 PEM file, relative to this file", "the key cannot be used: %v", err)
	}
	return r
}

// Key reads the key that signs reports; nil: there is none.
func (r TLSReports) Key() (crypto.Signer, error) {
	if r.KeyFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(r.KeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not sign", key)
	}
	return signer, nil
}

func (c *checker) address(where, s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		c.refuse(where, "an address as in postmaster@relay.acme.example", "%v", err)
	}
	return a
}

func (d Delivery) tlsTables() (tables []tlsDomainTable) {
	for _, o := range d.Domains {
		tables = append(tables, tlsDomainTable{Name: o.Name.String(), Subdomains: o.Subdomains, TLS: o.TLS, Names: list(o.Names)})
	}
	return tables
}

func (r TLSReports) table() tlsReportsTable {
	return tlsReportsTable{Enabled: r.Enabled, From: r.From.String(), Organization: r.Organization, Contact: r.Contact.String(), Selector: r.Selector, KeyFile: absolute(r.KeyFile)}
}
