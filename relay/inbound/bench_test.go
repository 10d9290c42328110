package inbound

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
)

// BenchmarkVerify is what Verify takes for a message of 20 KiB that passes SPF, DKIM,
// ARC and DMARC, with the DNS at hand. The body's hashes are not in it: they are made
// while it arrives.
func BenchmarkVerify(b *testing.B) {
	zone := &dns.Zone{}
	zone.SetTTL(time.Hour)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	signer := func(name string) dkim.Signer {
		zone.SetTXT("s1._domainkey."+name, dkim.RecordValue(key.Public()))
		return dkim.Signer{Domain: domain(name), Selector: "s1", Algorithm: dkim.RSASHA256, Key: key}
	}
	zone.SetTXT("sender.test", "v=spf1 include:_spf.sender.test -all")
	zone.SetTXT("_spf.sender.test", "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ~all")
	zone.SetTXT("_dmarc.sender.test", "v=DMARC1; p=reject; rua=mailto:dmarc@sender.test")
	now := time.Now()
	text := "From: Ada <ada@sender.test>\r\nTo: Bob <bob@here.test>\r\nSubject: Minutes\r\nDate: " + now.Format(time.RFC1123Z) + "\r\nMessage-ID: <1@sender.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
	body := []byte(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20<<10/72))
	header, err := mail.ParseHeader([]byte(text), mail.HeaderLimits{})
	if err != nil {
		b.Fatal(err)
	}
	hashes := func() dkim.BodyHashes {
		h := dkim.NewBodyHasher(header)
		h.Write(body)
		return h.Sum()
	}
	fields, err := dkim.Sign(header, hashes(), []dkim.Signer{signer("sender.test")}, now, 24*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	header = header.Prepend(fields...)
	results := authres.Results{ID: "mx.list.test", Methods: []authres.Result{{Method: "dmarc", Value: "pass"}}}
	if fields, err = arc.Seal(header, hashes(), arc.Chain{}, results, signer("list.test"), now); err != nil {
		b.Fatal(err)
	}
	if header, err = mail.ParseHeader(header.Prepend(fields...).Bytes(), mail.HeaderLimits{}); err != nil {
		b.Fatal(err)
	}
	server, err := zone.Serve("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	resolver, err := dns.New(dns.Options{Servers: []string{server.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	defer resolver.Close()
	sender, err := mail.ParseAddress("ada@sender.test")
	if err != nil {
		b.Fatal(err)
	}
	c := &Checker{Resolver: resolver}
	q := Question{Peer: netip.MustParseAddr("192.0.2.7"), Helo: "mx.sender.test", MailFrom: sender, From: domain("sender.test"), Header: header, Hashes: hashes()}
	b.ReportAllocs()
	for b.Loop() {
		r := c.Verify(context.Background(), &q, now)
		if r.DMARC.Status != dmarc.Pass || r.ARC.Status != arc.Pass || !r.SPFAligned() {
			b.Fatalf("%+v", r)
		}
	}
}

// BenchmarkBodyHashes is the other part: a body of 20 KiB as it arrives.
func BenchmarkBodyHashes(b *testing.B) {
	body := bytes.Repeat(append(bytes.Repeat([]byte("x"), 70), "\r\n"...), 20<<10/72)
	header, err := mail.ParseHeader([]byte("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.test; s=s1; h=from; bh=; b=\r\n"), mail.HeaderLimits{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		h := dkim.NewBodyHasher(header)
		h.Write(body)
		h.Sum()
	}
}
