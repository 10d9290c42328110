package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
)

func TestModesOfFilesAreJudged(t *testing.T) {
	for _, tt := range []struct {
		name    string
		secrecy Secrecy
		mode    fs.FileMode
		owner   int
		want    State
	}{
		{"a configuration that all read", Unwritten, 0o644, 1000, OK},
		{"a configuration that its group writes", Unwritten, 0o664, 1000, Warning},
		{"a configuration that anybody writes", Unwritten, 0o666, 1000, Problem},
		{"a registry of the group", Hidden, 0o640, 1000, OK},
		{"a registry that all read", Hidden, 0o644, 1000, Warning},
		{"a secret", Secret, 0o600, 1000, OK},
		{"a secret of the group", Secret, 0o640, 1000, Warning},
		{"a secret that all read", Secret, 0o604, 1000, Problem},
		{"a secret of root", Secret, 0o600, 0, OK},
		{"a secret of somebody else", Secret, 0o600, 1001, Warning},
	} {
		got := judgeMode(Check{State: OK}, File{Name: "f", Secrecy: tt.secrecy}, tt.mode, tt.owner, 1000)
		if got.State != tt.want || got.State != OK && got.Fix == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if got := CheckFile(File{Name: filepath.Join(t.TempDir(), "none")}, -1); got.State != Problem {
		t.Errorf("a file that is missing: %+v", got)
	}
	if got := CheckFile(File{Name: filepath.Join(t.TempDir(), "none"), Optional: true}, -1); got.State != OK {
		t.Errorf("a file that may be missing: %+v", got)
	}
}

func TestDisksClocksAndLimitsAreJudged(t *testing.T) {
	const reserve = 1 << 30
	for _, tt := range []struct {
		name string
		disk Disk
		want State
	}{
		{"room", Disk{Free: 100 << 30, Kind: "ext4"}, OK},
		{"unknown kind", Disk{Free: 100 << 30}, OK},
		{"little room", Disk{Free: 2 << 30, Kind: "ext4"}, Warning},
		{"none", Disk{Free: reserve, Kind: "ext4"}, Problem},
		{"memory", Disk{Free: 100 << 30, Kind: "tmpfs"}, Warning},
		{"network", Disk{Free: 100 << 30, Kind: "nfs"}, Warning},
		{"a container's layer", Disk{Free: 100 << 30, Kind: "overlay"}, Warning},
	} {
		if got := judgeDisk(Check{State: OK}, tt.disk, reserve); got.State != tt.want {
			t.Errorf("disk: %s: %+v", tt.name, got)
		}
	}
	for want, clock := range map[State]Clock{OK: {Known: true, Synchronised: true}, Warning: {Known: true}, Skipped: {}} {
		if got := CheckClock(clock); got.State != want {
			t.Errorf("clock: %+v", got)
		}
	}
	if got := CheckClock(Clock{Known: true, Synchronised: true, ErrorMicros: 9_000_000}); got.State != Warning {
		t.Errorf("a clock that is wrong by seconds: %+v", got)
	}
	for limit, want := range map[uint64]State{0: Skipped, 1024: Warning, 1 << 20: OK} {
		if got := CheckDescriptors(limit, "us", 2000); got.State != want {
			t.Errorf("%d descriptors: %+v", limit, got)
		}
	}
	if got := CheckDisk(filepath.Join(t.TempDir(), "not", "there", "yet"), 0); got.Seen == "" || got.State == Problem {
		t.Errorf("a folder to come: %+v", got)
	}
}

func certificate(t *testing.T, names []string, from, to time.Time, by *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "t" + strings.Join(names, "")}, DNSNames: names, NotBefore: from, NotAfter: to, BasicConstraintsValid: true, IsCA: len(names) == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if by == nil {
		by, key = template, own
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, own.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, own
}

func TestCertificatesAreJudged(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	root, rootKey := certificate(t, nil, now.Add(-day), now.Add(3650*day), nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	for _, tt := range []struct {
		name     string
		names    []string
		from, to time.Duration
		self     bool
		want     State
		says     string
	}{
		{"of an authority", []string{"relay.test"}, -day, 60 * day, false, OK, "60 days"},
		{"a wildcard", []string{"*.test"}, -day, 60 * day, false, OK, ""},
		{"soon over", []string{"relay.test"}, -day, 3 * day, false, Warning, ""},
		{"over", []string{"relay.test"}, -9 * day, -day, false, Problem, "over"},
		{"not yet", []string{"relay.test"}, day, 60 * day, false, Problem, "begins"},
		{"for another name", []string{"other.test"}, -day, 60 * day, false, Problem, ""},
		{"self-signed", []string{"relay.test"}, -day, 60 * day, true, Warning, "self-signed"},
	} {
		by, key := root, rootKey
		if tt.self {
			by, key = nil, nil
		}
		leaf, _ := certificate(t, tt.names, now.Add(tt.from), now.Add(tt.to), by, key)
		got := judgeCertificate(Check{}, []*x509.Certificate{leaf}, domain(t, "relay.test"), roots, now)
		if got.State != tt.want || !strings.Contains(got.Seen, tt.says) || got.State != OK && got.Fix == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	stranger, strangerKey := certificate(t, nil, now.Add(-day), now.Add(day*100), nil, nil)
	leaf, _ := certificate(t, []string{"relay.test"}, now.Add(-day), now.Add(day*100), stranger, strangerKey)
	if got := judgeCertificate(Check{}, []*x509.Certificate{leaf}, domain(t, "relay.test"), roots, now); got.State != Warning || !strings.Contains(got.Seen, "does not verify") {
		t.Errorf("of an authority nobody knows: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(file, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := CheckCertificate(file, domain(t, "relay.test"), false, now); got.State != Problem {
		t.Errorf("no PEM: %+v", got)
	}
	if got := CheckCertificate(file+".none", domain(t, "relay.test"), true, now); got.State != Warning {
		t.Errorf("one to be made: %+v", got)
	}
	if got := CheckCertificate(file+".none", domain(t, "relay.test"), false, now); got.State != Problem {
		t.Errorf("one that is missing: %+v", got)
	}
}

// greeter listens on loopback and greets with a line; empty: it closes at once.
func greeter(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(line))
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestPortsAndTheWayOutAreTried(t *testing.T) {
	greets, silent, other := greeter(t, "220 mx.test ESMTP\r\n"), greeter(t, ""), greeter(t, "554 go away\x1b[31m\r\n")
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	for _, tt := range []struct {
		address   string
		port, out State
	}{{greets, OK, OK}, {silent, Problem, Warning}, {other, Warning, Warning}, {closed, Problem, Problem}} {
		if got := CheckPort(t.Context(), "smtp", tt.address); got.State != tt.port || strings.Contains(got.Seen, "\x1b") {
			t.Errorf("port: %+v", got)
		}
		if got := CheckOutbound(t.Context(), tt.address, 25); got.State != tt.out || got.State != OK && got.Fix == "" || strings.Contains(got.Seen, "\x1b") {
			t.Errorf("outbound: %+v", got)
		}
	}
	if got := CheckFreePort("smtp", greets); got.State != Problem || !strings.Contains(got.Fix, "another program") {
		t.Errorf("a port in use: %+v", got)
	}
	if got := CheckFreePort("smtp", closed); got.State != OK {
		t.Errorf("a free port: %+v", got)
	}
	if got := Reachable("0.0.0.0:25"); got != "127.0.0.1:25" {
		t.Errorf("every address is reached at %s", got)
	}
	if got := Reachable("[::]:25"); got != "[::1]:25" {
		t.Errorf("every address is reached at %s", got)
	}
}

// names is a zone served on loopback, asked as a relay asks.
func names(t *testing.T) (*Names, *dns.Zone) {
	t.Helper()
	zone := &dns.Zone{}
	server, err := zone.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	resolver, err := dns.New(dns.Options{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resolver.Close() })
	return &Names{Resolver: resolver, Port: PortFor([]string{server.Addr()})}, zone
}

func TestReverseNamesAndGreetingsAreChecked(t *testing.T) {
	n, zone := names(t)
	relay, at := domain(t, "relay.test"), netip.MustParseAddr("192.0.2.1")
	state := func() (reverse, helo State) {
		return Confirmed(t.Context(), n.Resolver, at, relay).State, Greeting(t.Context(), n.Resolver, at, relay).State
	}
	if r, h := state(); r != Problem || h != Problem {
		t.Errorf("with nothing in DNS: %s, %s", r, h)
	}
	zone.SetPTR(at, "host.test")
	if r, _ := state(); r != Problem {
		t.Errorf("with a name that does not lead back: %s", r)
	}
	zone.SetAddresses("host.test", at)
	if c := Confirmed(t.Context(), n.Resolver, at, relay); c.State != OK || c.Fix == "" {
		t.Errorf("with another name both ways: %+v", c)
	}
	zone.SetAddresses("relay.test", at)
	zone.SetPTR(at, "relay.test")
	if r, h := state(); r != OK || h != OK {
		t.Errorf("with its own name both ways: %s, %s", r, h)
	}
	zone.SetFault("relay.test", true)
	if _, h := state(); h != Warning {
		t.Errorf("while DNS fails: %s", h)
	}
	if got := CheckNameServer(t.Context(), n, n.Resolver.Servers()[0], relay); got.State != Problem {
		t.Errorf("a name server that fails: %+v", got)
	}
	if got := CheckNameServer(t.Context(), n, n.Resolver.Servers()[0], domain(t, "none.test")); got.State != OK {
		t.Errorf("a name server that answers: %+v", got)
	}
}

func TestEveryServerOfAZoneIsAsked(t *testing.T) {
	n, zone := names(t)
	if r := n.TXT(t.Context(), "x.acme.test"); len(r.Authorities) != 0 || r.Note == "" || !r.Own.Missing {
		t.Errorf("without NS records: %+v", r)
	}
	zone.SetTXT("x.acme.test", "one")
	zone.SetNS("acme.test", "ns.acme.test", "dead.acme.test", "nowhere.acme.test")
	zone.SetAddresses("ns.acme.test", netip.MustParseAddr("127.0.0.1"))
	zone.SetAddresses("dead.acme.test", netip.MustParseAddr("127.0.0.3"))
	r := n.TXT(t.Context(), "x.acme.test")
	if r.Zone != "acme.test" || len(r.Authorities) != 2 {
		t.Fatalf("asked were %+v", r)
	}
	if got := r.Authorities[1]; got.Err != nil || len(got.Records) != 1 {
		t.Errorf("the living one has %+v", got)
	}
	if got := r.Authorities[0]; got.Err == nil {
		t.Errorf("the dead one has %+v", got)
	}
	zone.SetMX("acme.test", mail.MX{Preference: 10, Host: "relay.test"})
	if got := n.MX(t.Context(), "acme.test"); len(got.Own.Records) != 1 || got.Own.Records[0] != "10 relay.test" || got.Authorities[1].Records[0] != "10 relay.test" {
		t.Errorf("exchangers are %+v", got)
	}
	zone.SetCNAME("k.acme.test", "elsewhere.test")
	zone.SetTXT("elsewhere.test", "behind")
	if got := n.TXT(t.Context(), "k.acme.test"); got.Own.Records[0] != "behind" {
		t.Errorf("behind an alias is %+v", got.Own)
	}
}
