package app

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/control/config"
	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/standard/dkim"
	"anechoic/standard/mtasts"
	"anechoic/standard/tlsrpt"
)

// reporting is what sends reports, with a queue that nothing leaves, a web server
// that takes reports, and a day whose results are counted.
type reporting struct {
	*transportSecurity
	zone  *dns.Zone
	now   time.Time
	mu    sync.Mutex
	posts int
}

func newReporting(t *testing.T, c config.TLSReports, registry string) *reporting {
	t.Helper()
	r := &reporting{zone: &dns.Zone{}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	server, err := r.zone.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	resolver, err := dns.New(dns.Options{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resolver.Close() })
	store := memory.New()
	queue, err := custody.OpenQueue(t.Context(), store, custody.Options{SealKey: make([]byte, 32), RetryAfter: []time.Duration{time.Minute}, ExpireAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	host, err := mail.ParseDomain("relay.example")
	if err != nil {
		t.Fatal(err)
	}
	a := &App{config: config.Config{Hostname: host, TLSReports: c}, resolver: resolver, queue: queue, log: slog.New(slog.DiscardHandler)}
	file := filepath.Join(t.TempDir(), "registry.toml")
	if err := os.WriteFile(file, []byte(registry), 0o600); err != nil {
		t.Fatal(err)
	}
	text, problems := org.ReadRegistry(file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(text, org.Providers{}, nil, 1, r.now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a.directory.Store(dir)
	r.transportSecurity = &transportSecurity{app: a, tallies: &delivery.TLSTallies{Store: store}}
	r.serveWeb(t)
	globex, err := mail.ParseDomain("globex.example")
	if err != nil {
		t.Fatal(err)
	}
	r.tallies.Count(globex, tlsrpt.Policy{Type: tlsrpt.PolicyNone, Domain: globex}, tlsrpt.Failure{}, r.now.AddDate(0, 0, -1))
	return r
}

// serveWeb stands for every web server; only those of a path /reports take any.
func (r *reporting) serveWeb(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if q.URL.Path != "/reports" || q.Method != http.MethodPost || q.Header.Get("Content-Type") != tlsrpt.MediaType || err != nil || len(body) == 0 {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		r.mu.Lock()
		r.posts++
		r.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(web.Close)
	conf := web.Client().Transport.(*http.Transport).TLSClientConfig // it trusts the server as example.com
	r.web = mtasts.Transport(&http.Transport{TLSClientConfig: conf, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, web.Listener.Addr().String())
	}})
}

// queued gives the reports that wait in the queue.
func (r *reporting) queued(t *testing.T) (found []custody.Content, to []string) {
	t.Helper()
	leases, err := r.app.queue.Lease(t.Context(), r.now.Add(time.Second), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases {
		content, warrant, err := r.app.queue.Load(t.Context(), l)
		if err != nil || warrant.Kind() != custody.KindNotice || !l.Message.Envelope.From.IsZero() {
			t.Fatalf("%v of %q: %v", warrant, l.Message.Envelope.From, err)
		}
		found = append(found, content)
		for _, rcpt := range l.Recipients {
			to = append(to, rcpt.Address.String())
		}
	}
	return found, to
}

const noOrganisation = "[[organisation]]\nid = \"acme\"\nname = \"Acme\"\n"

func TestADayIsReportedOnceToWhoeverAsks(t *testing.T) {
	r := newReporting(t, config.TLSReports{Enabled: true}, noOrganisation)
	r.zone.SetTXT("_smtp._tls.globex.example", "v=TLSRPTv1; rua=mailto:tls@globex.example,https://example.com/reports")
	for range 3 {
		r.report(t.Context(), r.now)
	}
	found, to := r.queued(t)
	if len(found) != 1 || strings.Join(to, " ") != "tls@globex.example" || r.posts != 1 {
		t.Fatalf("%d mails to %v, %d posts", len(found), to, r.posts)
	}
	header := string(found[0].Header())
	for _, want := range []string{"From: TLS reports <tls-reports@relay.example>\r\n", "TLS-Report-Domain: globex.example\r\n", "TLS-Required: No\r\n", "Auto-Submitted: auto-generated\r\n"} {
		if !strings.Contains(header, want) {
			t.Errorf("there is no %q in\n%s", want, header)
		}
	}
}

func TestADayThatNobodyAsksAboutIsForgotten(t *testing.T) {
	r := newReporting(t, config.TLSReports{Enabled: true}, noOrganisation)
	r.report(t.Context(), r.now)
	if found, _ := r.queued(t); len(found) != 0 || len(r.tallies.Finished(r.now)) != 0 {
		t.Errorf("%d mails, %v", len(found), r.tallies.Finished(r.now))
	}
}

func TestAReportThatCannotBeSentIsTriedForSomeDays(t *testing.T) {
	for about, record := range map[string]string{"a server that refuses": "v=TLSRPTv1; rua=https://example.com/elsewhere", "DNS that fails": ""} {
		r := newReporting(t, config.TLSReports{Enabled: true}, noOrganisation)
		r.zone.SetTXT("_smtp._tls.globex.example", record)
		r.zone.SetFault("_smtp._tls.globex.example", record == "")
		r.report(t.Context(), r.now)
		if len(r.tallies.Finished(r.now)) != 1 {
			t.Errorf("%s: given up at once", about)
		}
		r.report(t.Context(), r.now.AddDate(0, 0, 7))
		if len(r.tallies.Finished(r.now)) != 0 {
			t.Errorf("%s: still tried after a week", about)
		}
	}
}

func TestReportsAreSignedByTheRelayNeverInTheNameOfAnOrganisation(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "relay.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.TLSReports{Enabled: true, Selector: "relay", KeyFile: file}
	r := newReporting(t, c, noOrganisation)
	r.zone.SetTXT("_smtp._tls.globex.example", "v=TLSRPTv1; rua=mailto:tls@globex.example")
	r.zone.SetTXT("relay._domainkey.relay.example", dkim.RecordValue(key.Public()))
	r.report(t.Context(), r.now)
	found, _ := r.queued(t)
	if len(found) != 1 {
		t.Fatalf("%d mails", len(found))
	}
	header, err := mail.ParseHeader(found[0].Header(), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	hasher := dkim.NewBodyHasher(header)
	if _, err := io.Copy(hasher, found[0].Body()); err != nil {
		t.Fatal(err)
	}
	results := dkim.Verify(t.Context(), r.app.resolver, header, hasher.Sum(), r.now)
	if len(results) != 1 || results[0].Status != dkim.Pass {
		t.Errorf("%+v", results)
	}

	r = newReporting(t, c, noOrganisation+"[[organisation.domain]]\nname = \"relay.example\"\n")
	r.zone.SetTXT("_smtp._tls.globex.example", "v=TLSRPTv1; rua=mailto:tls@globex.example")
	r.report(t.Context(), r.now)
	if found, _ := r.queued(t); len(found) != 0 {
		t.Error("a report left in the name of an organisation")
	}
}

func TestReportsOfADayAreSpreadOverHours(t *testing.T) {
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	early := 0
	for _, name := range []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example", "h.example"} {
		d, err := mail.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		tally := tlsrpt.Tally{Day: day, Domain: d}
		if reportDue(tally, day.Add(24*time.Hour-time.Second)) {
			t.Errorf("%s before the day is over", name)
		}
		if reportDue(tally, day.Add(26*time.Hour)) {
			early++
		}
		if !reportDue(tally, day.Add(24*time.Hour+reportSpread)) {
			t.Errorf("%s not in time", name)
		}
	}
	if early == 0 || early == 8 {
		t.Errorf("%d of 8 within two hours", early)
	}
}

func TestNoStrangersDNSChoosesAnAddressInside(t *testing.T) {
	for address, want := range map[string]bool{
		"203.0.113.1": true, "2a00::1": true, "127.0.0.1": false, "10.0.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "fc00::1": false, "fe80::1": false,
	} {
		if got := publicAddress(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
