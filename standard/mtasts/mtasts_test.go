package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRecords(t *testing.T) {
	for _, c := range []struct {
		about string
		texts []string
		id    string
		err   error
	}{
		{"one", []string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z", nil},
		{"no delimiter at the end", []string{"v=STSv1;id=1"}, "1", nil},
		{"a field that nobody knows", []string{"v=STSv1; x=y; id=1 ;"}, "1", nil},
		{"among others", []string{"v=spf1 -all", "v=STSv1; id=1", "id=2"}, "1", nil},
		{"none", []string{"v=STSv2; id=1"}, "", ErrNoRecord},
		{"two are none", []string{"v=STSv1; id=1", "v=STSv1; id=1"}, "", ErrNoRecord},
		{"no id", []string{"v=STSv1; x=1"}, "", ErrRecord},
		{"two ids", []string{"v=STSv1; id=1; id=2"}, "", ErrRecord},
		{"an empty id", []string{"v=STSv1; id="}, "", ErrRecord},
		{"an id of other characters", []string{"v=STSv1; id=a-b"}, "", ErrRecord},
		{"an id too long", []string{"v=STSv1; id=" + strings.Repeat("1", 33)}, "", ErrRecord},
		{"no equals sign", []string{"v=STSv1; id"}, "", ErrRecord},
		{"in capitals", []string{"V=STSV1; id=1"}, "", ErrNoRecord},
	} {
		id, err := Find(c.texts)
		if id != c.id || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %q, %v", c.about, id, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	lines := func(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }
	enforce := Policy{Mode: ModeEnforce, MX: []string{"mail.example.com", "*.example.net"}, MaxAge: 604800 * time.Second}
	for _, c := range []struct {
		about, text string
		want        Policy
		bad         string
	}{
		{"as in RFC 8461", lines("version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net", "max_age: 604800"), enforce, ""},
		{"LF alone, no line end at the end, any order", "mx: mail.example.com\nmax_age:604800\nmode:  enforce\t\nmx: *.Example.NET\nversion: STSv1", enforce, ""},
		{"unknown keys", lines("version: STSv1", "x-y.z: anything: at all", "mode: testing", "mx: a.example", "max_age: 0"), Policy{Mode: ModeTesting, MX: []string{"a.example"}}, ""},
		{"the first of two counts", lines("version: STSv1", "mode: testing", "mode: enforce", "mx: a.example", "max_age: 1", "max_age: x"), Policy{Mode: ModeTesting, MX: []string{"a.example"}, MaxAge: time.Second}, ""},
		{"none needs no mx", lines("version: STSv1", "mode: none", "max_age: 86400"), Policy{Mode: ModeNone, MaxAge: 24 * time.Hour}, ""},
		{"a year at most", lines("version: STSv1", "mode: none", "max_age: 9999999999"), Policy{Mode: ModeNone, MaxAge: MaxAge}, ""},
		{"U-labels", lines("version: STSv1", "mode: testing", "mx: *.bücher.example", "max_age: 1"), Policy{Mode: ModeTesting, MX: []string{"*.xn--bcher-kva.example"}, MaxAge: time.Second}, ""},
		{"HTML", "<!DOCTYPE html>\n<html><body>Not here</body></html>", Policy{}, "key: value"},
		{"nothing", "", Policy{}, "version"},
		{"another version", lines("version: STSv2", "mode: none", "max_age: 1"), Policy{}, "version"},
		{"no mode", lines("version: STSv1", "mx: a.example", "max_age: 1"), Policy{}, "mode"},
		{"another mode", lines("version: STSv1", "mode: Enforce", "mx: a.example", "max_age: 1"), Policy{}, "mode"},
		{"no mx", lines("version: STSv1", "mode: enforce", "max_age: 1"), Policy{}, "mx"},
		{"no age", lines("version: STSv1", "mode: none"), Policy{}, "max_age"},
		{"a negative age", lines("version: STSv1", "mode: none", "max_age: -1"), Policy{}, "max_age"},
		{"an age of eleven digits", lines("version: STSv1", "mode: none", "max_age: 10000000000"), Policy{}, "max_age"},
		{"mx is everything", lines("version: STSv1", "mode: enforce", "mx: *", "max_age: 1"), Policy{}, "mx"},
		{"a wildcard inside", lines("version: STSv1", "mode: enforce", "mx: a.*.example", "max_age: 1"), Policy{}, "mx"},
		{"an address", lines("version: STSv1", "mode: enforce", "mx: 192.0.2.1", "max_age: 1"), Policy{}, "mx"},
		{"no UTF-8", "version: STSv1\nx: \xff\n", Policy{}, "UTF-8"},
		{"too large", strings.Repeat("x: y\n", MaxPolicy/5+1), Policy{}, "larger"},
		{"too many mx", strings.Repeat("mx: a.example\n", maxMX+1), Policy{}, "more than"},
	} {
		t.Run(c.about, func(t *testing.T) {
			got, err := ParsePolicy([]byte(c.text))
			if c.bad != "" {
				if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), c.bad) {
					t.Errorf("error %v does not say %q", err, c.bad)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
}

func TestHostsAPolicyAllows(t *testing.T) {
	p := Policy{Mode: ModeEnforce, MX: []string{"mail.example.com", "*.example.net"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.example.com.": true, "x.mail.example.com": false, "example.com": false,
		"a.example.net": true, "example.net": false, "a.b.example.net": false, "aexample.net": false, "": false,
	} {
		if got := p.Allows(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// policyHost serves one answer at https://mta-sts.example.com; over is how to get
// there.
func policyHost(t *testing.T, handler http.HandlerFunc) (over *http.Transport) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS() // with a certificate for example.com and *.example.com
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Transport(&http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "mta-sts.example.com:443" && address != "mta-sts.example.org:443" {
				return nil, fmt.Errorf("connects to %s", address)
			}
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	})
}

const goodPolicy = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n"

func TestFetch(t *testing.T) {
	answer := func(media, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.example.com" {
				t.Errorf("asked for %s of %s", r.URL, r.Host)
			}
			w.Header().Set("Content-Type", media)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		about   string
		handler http.HandlerFunc
		want    error
	}{
		{"a policy", answer("text/plain; charset=utf-8", goodPolicy), nil},
		{"HTML", answer("text/html", "<html>"), ErrMediaType},
		{"HTML that says it is text", answer("text/plain", "<html>Welcome</html>"), ErrPolicy},
		{"no media type", answer("", goodPolicy), ErrMediaType},
		{"a policy and 64 KiB more", answer("text/plain", goodPolicy+strings.Repeat("x: y\n", 20_000)), ErrTooLarge},
		{"endless text", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			for range 1 << 20 {
				if _, err := io.WriteString(w, goodPolicy); err != nil {
					return
				}
			}
		}, ErrTooLarge},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://mta-sts.example.org/.well-known/mta-sts.txt", http.StatusFound)
		}, ErrRedirect},
		{"nothing there", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, ErrFetch},
		{"a connection that ends", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrFetch},
		{"headers without end", func(w http.ResponseWriter, r *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("y", 100))
			}
		}, ErrFetch},
	} {
		t.Run(c.about, func(t *testing.T) {
			p, err := Fetch(t.Context(), policyHost(t, c.handler), domain(t, "example.com"))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && !p.Allows("mx.example.com") {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

func TestAPolicyHostWithoutAValidCertificateHasNoPolicy(t *testing.T) {
	over := policyHost(t, func(w http.ResponseWriter, r *http.Request) { t.Error("it was asked") })
	if _, err := Fetch(t.Context(), over, domain(t, "example.org")); !errors.Is(err, ErrCertificate) {
		t.Errorf("a certificate of another name: %v", err)
	}
	over.TLSClientConfig.RootCAs = x509.NewCertPool()
	if _, err := Fetch(t.Context(), over, domain(t, "example.com")); !errors.Is(err, ErrCertificate) {
		t.Errorf("a certificate nobody vouches for: %v", err)
	}
}

// trickle is a policy host that sends an octet now and then, and never ends.
type trickle struct{}

func (trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	in, out := io.Pipe()
	go func() {
		for r.Context().Err() == nil {
			time.Sleep(time.Second)
			io.WriteString(out, "x")
		}
		out.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Body: in, ContentLength: -1}, nil
}

func TestATricklingPolicyHostHasAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := Fetch(t.Context(), trickle{}, domain(t, "example.com"))
		if took := time.Since(begin); !errors.Is(err, ErrFetch) || took > fetchTime+time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

func TestWhatACacheDoes(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	week := Policy{Mode: ModeEnforce, MX: []string{"mx.example.com"}, MaxAge: 7 * 24 * time.Hour}
	nothing := Entry{Domain: domain(t, "example.com")}
	known := nothing.Renewed("1", week, at)
	for _, c := range []struct {
		about string
		entry Entry
		id    string
		after time.Duration
		force bool
		due   bool
	}{
		{"nothing known, no record", nothing, "", 0, false, false},
		{"nothing known, a record", nothing, "1", 0, false, true},
		{"known", known, "1", time.Hour, true, false},
		{"known, the record is gone", known, "", time.Hour, true, false},
		{"known, another id", known, "2", time.Hour, true, true},
		{"a day old", known, "1", 24 * time.Hour, true, true},
		{"a day old, the record is gone", known, "", 24 * time.Hour, true, true},
		{"over", known, "1", 7 * 24 * time.Hour, false, true},
		{"over, the record is gone", known, "", 7 * 24 * time.Hour, false, false},
		{"another id, but a fetch just failed", known.Failed(ErrFetch, at.Add(time.Hour)), "2", time.Hour + time.Minute, true, false},
		{"another id, and a fetch failed a while ago", known.Failed(ErrFetch, at.Add(time.Hour)), "2", time.Hour + 5*time.Minute, true, true},
		{"never fetched, just failed", nothing.Failed(ErrFetch, at), "1", time.Minute, false, false},
		{"a clock set back", known, "1", -time.Hour, true, false},
		{"a policy for a minute", nothing.Renewed("1", Policy{Mode: ModeTesting, MaxAge: time.Minute}, at), "1", 30 * time.Second, true, true},
	} {
		now := at.Add(c.after)
		if got := c.entry.InForce(now); got != c.force {
			t.Errorf("%s: in force %v", c.about, got)
		}
		if got := c.entry.Due(c.id, now); got != c.due {
			t.Errorf("%s: due %v", c.about, got)
		}
	}
	if again := known.Renewed("", week, at.Add(time.Hour)); again.ID != "1" {
		t.Errorf("a refresh without a look-up loses the id: %+v", again)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1; id=1; x=y")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseRecord(s)
		if (err == nil) != isID(id) {
			t.Errorf("%q: %q, %v", s, id, err)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(goodPolicy))
	f.Add([]byte("version: STSv1\r\nmode: none\r\nmax_age: 1\r\n"))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			if p.Asks() {
				t.Errorf("%q is refused and asks for something: %+v", b, p)
			}
			return
		}
		again, err := ParsePolicy([]byte(strings.Join(p.Lines(), "\n")))
		if diff := cmp.Diff(p, again); diff != "" || err != nil {
			t.Errorf("%q: %v %s", b, err, diff)
		}
	})
}
