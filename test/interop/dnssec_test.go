package interop

import (
	"crypto"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail/dns"
)

// signedZone is a zone with a key and what it signed, made for unbound to
// validate.
type signedZone struct {
	name   string
	key    *wire.DNSKEY
	signer crypto.Signer
	sets   map[rrset][]wire.RR
	bogus  map[rrset]bool // whose signature is of something else
}

type rrset struct {
	name  string
	rtype uint16
}

// newSignedZone begins a zone; records are added with add.
func newSignedZone(t *testing.T, name string) *signedZone {
	t.Helper()
	z := &signedZone{name: wire.Fqdn(name), sets: map[rrset][]wire.RR{}, bogus: map[rrset]bool{}}
	z.key = &wire.DNSKEY{Hdr: z.header(z.name, wire.TypeDNSKEY), Flags: 257, Protocol: 3, Algorithm: wire.ECDSAP256SHA256}
	private, err := z.key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	z.signer = private.(crypto.Signer)
	z.put(z.key)
	z.add(t, "@ SOA ns.%[1]s hostmaster.%[1]s 1 3600 600 86400 60", "@ NS ns.%[1]s", "ns A 127.0.0.1")
	return z
}

func (z *signedZone) header(name string, rtype uint16) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: rtype, Class: wire.ClassINET, Ttl: 60}
}

// add takes lines "name TYPE data", with the name below the zone and %[1]s for
// the zone.
func (z *signedZone) add(t *testing.T, lines ...string) {
	t.Helper()
	for _, l := range lines {
		name, rest, _ := strings.Cut(l, " ")
		owner := name + "." + z.name
		if name == "@" {
			owner = z.name
		}
		if strings.Contains(rest, "%[1]s") {
			rest = fmt.Sprintf(rest, z.name)
		}
		rr, err := wire.NewRR(owner + " 60 IN " + rest)
		if err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		z.put(rr)
	}
}

func (z *signedZone) put(rr wire.RR) {
	s := rrset{rr.Header().Name, rr.Header().Rrtype}
	z.sets[s] = append(z.sets[s], rr)
}

// falsify leaves the signature of a set as it was for other data.
func (z *signedZone) falsify(name string, rtype uint16) {
	z.bogus[rrset{name + "." + z.name, rtype}] = true
}

// file is the zone with its chain of NSEC records and its signatures (RFC 4034).
func (z *signedZone) file(t *testing.T) string {
	t.Helper()
	z.chain()
	var b strings.Builder
	for s, set := range z.sets {
		signature := &wire.RRSIG{
			Hdr: z.header(s.name, wire.TypeRRSIG), Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: z.name,
			Inception: uint32(time.Now().Add(-time.Hour).Unix()), Expiration: uint32(time.Now().Add(24 * time.Hour).Unix()),
		}
		if err := signature.Sign(z.signer, set); err != nil {
			t.Fatal(err)
		}
		if z.bogus[s] {
			signature.Expiration++ // it is signed too
		}
		for _, rr := range append(set, signature) {
			b.WriteString(rr.String() + "\n")
		}
	}
	return b.String()
}

// chain adds the NSEC records: each name with its types and the next name.
func (z *signedZone) chain() {
	types := map[string][]uint16{}
	for s := range z.sets {
		types[s.name] = append(types[s.name], s.rtype)
	}
	var names []string
	for n := range types {
		names = append(names, n)
	}
	slices.SortFunc(names, canonicalOrder)
	for i, n := range names {
		bits := append(types[n], wire.TypeNSEC, wire.TypeRRSIG)
		slices.Sort(bits)
		z.put(&wire.NSEC{Hdr: z.header(n, wire.TypeNSEC), NextDomain: names[(i+1)%len(names)], TypeBitMap: bits})
	}
}

// canonicalOrder is RFC 4034 section 6.1: label by label from the right.
func canonicalOrder(a, b string) int {
	x, y := wire.SplitDomainName(a), wire.SplitDomainName(b)
	slices.Reverse(x)
	slices.Reverse(y)
	return slices.Compare(x, y)
}

const unboundConfig = `server:
  interface: 127.0.0.1@%[1]d
  port: %[1]d
  do-ip6: no
  do-daemonize: no
  username: ""
  chroot: ""
  directory: %[2]q
  pidfile: ""
  use-syslog: no
  logfile: ""
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  local-zone: "127.in-addr.arpa." nodefault
  module-config: "validator iterator"
  trust-anchor: %[3]q
remote-control:
  control-enable: no
auth-zone:
  name: %[4]q
  zonefile: %[5]q
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
stub-zone:
  name: "example."
  stub-addr: %[6]s
stub-zone:
  name: "arpa."
  stub-addr: %[6]s
`

// startUnbound runs a validating resolver that trusts the zone's key, and asks
// the rest of the test's internet for everything else. It gives its address.
func (r *relay) startUnbound(t *testing.T, z *signedZone) string {
	t.Helper()
	unbound, err := exec.LookPath("unbound")
	if err != nil {
		unbound, err = exec.LookPath("/usr/sbin/unbound")
	}
	if err != nil {
		missing(t, "unbound is missing: apt-get install unbound")
	}
	port := freeDNSPort(t)
	zoneFile := r.write(t, "signed.zone", z.file(t))
	config := r.write(t, "unbound.conf", fmt.Sprintf(unboundConfig, port, r.dir, strings.ReplaceAll(z.key.ToDS(wire.SHA256).String(), "\t", " "), z.name, zoneFile, strings.Replace(r.internet.DNS(), ":", "@", 1)))
	cmd := exec.Command(unbound, "-d", "-c", config)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end(cmd, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("unbound said:\n%s", said.String())
		}
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	r.awaitValidation(t, address, strings.TrimSuffix(z.name, "."))
	return address
}

// awaitValidation waits until a resolver answers with AD.
func (r *relay) awaitValidation(t *testing.T, address, signed string) {
	t.Helper()
	client, err := dns.New(dns.Options{Servers: []string{address}, TrustLoopback: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := client.CheckAuthentic(t.Context(), signed)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("unbound does not validate: %v", err)
		}
	}
}

// freeDNSPort is free for UDP and TCP.
func freeDNSPort(t *testing.T) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		at := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if err == nil {
			pc.Close()
			return at
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return 0
}
