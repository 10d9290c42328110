package dns

import (
	"errors"
	"testing"
)

func TestADCountsOnATrustedPathOnly(t *testing.T) {
	z := &Zone{}
	z.SetTXT("signed.example", "x")
	s, err := z.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		about     string
		options   Options
		validates bool
		good      bool
	}{
		{"on loopback, and it validates", Options{TrustLoopback: true}, true, true},
		{"trusted, and it validates", Options{TrustAD: true}, true, true},
		{"on loopback, and it does not validate", Options{TrustLoopback: true}, false, false},
		{"it validates, and nobody trusts it", Options{}, true, false},
	} {
		z.SetAuthentic(c.validates)
		c.options.Servers = []string{s.Addr()}
		client, err := New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.CheckAuthentic(t.Context(), "signed.example"); (err == nil) != c.good || err != nil && !errors.Is(err, ErrNotAuthentic) {
			t.Errorf("%s: %v", c.about, err)
		}
		if a, err := client.TXT(t.Context(), "signed.example"); err != nil || a.Authentic != c.good {
			t.Errorf("%s: authentic %v, %v", c.about, a.Authentic, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestServersElsewhereAreNotTrustedForBeingServers(t *testing.T) {
	for _, c := range []struct {
		servers []string
		want    bool
	}{
		{[]string{"127.0.0.1:53", "[::1]:53"}, true},
		{[]string{"127.0.0.1:53", "192.0.2.1:53"}, false},
		{[]string{"localhost:53"}, false},
		{nil, false},
	} {
		if got := onLoopback(c.servers); got != c.want {
			t.Errorf("%v: %v", c.servers, got)
		}
	}
}

func TestAServerThatDoesNotAnswerIsNotOneThatDoesNotValidate(t *testing.T) {
	z := &Zone{}
	z.SetFault("signed.example", true)
	s, err := z.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client, err := New(Options{Servers: []string{s.Addr()}, TrustLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.CheckAuthentic(t.Context(), "signed.example"); err == nil || errors.Is(err, ErrNotAuthentic) {
		t.Errorf("%v", err)
	}
}
