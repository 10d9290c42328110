package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/bounce"
	"anechoic/relay/custody"
)

// returnsOf is what comes back for acme, and for globex which wants nothing back.
func returnsOf(t *testing.T) (*returns, *org.Directory) {
	t.Helper()
	registry, problems := org.ParseRegistry("registry.toml", []byte(`
[[organisation]]
id = "acme"
name = "Acme"
return_path = "bounces.acme.test"
[[organisation.domain]]
name = "acme.test"
subdomains = true
[[organisation]]
id = "globex"
name = "Globex"
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(registry, org.Providers{}, nil, 7, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return newReturns(memory.New(), make([]byte, 32), slog.New(slog.DiscardHandler)), dir
}

func TestWhatASenderSaidForReportsIsRememberedOnlyWhereItIsNeeded(t *testing.T) {
	s, dir := returnsOf(t)
	from, err := mail.ParseAddress("ann@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	bob, err := mail.ParseAddress("bob@else.test")
	if err != nil {
		t.Fatal(err)
	}
	id := mail.NewID(noon)
	name := s.addresses.Name(id, "bob@else.test")
	for what, c := range map[string]struct {
		of       org.ID
		envelope mail.Envelope
		want     sentEnvelope
	}{
		"nothing":            {"acme", mail.Envelope{From: from, Recipients: []mail.Recipient{{Address: bob}}}, sentEnvelope{}},
		"ENVID":              {"acme", mail.Envelope{From: from, EnvID: "QQ"}, sentEnvelope{EnvID: "QQ"}},
		"REQUIRETLS":         {"acme", mail.Envelope{From: from, RequireTLS: true}, sentEnvelope{RequireTLS: true}},
		"ORCPT":              {"acme", mail.Envelope{From: from, Recipients: []mail.Recipient{{Address: bob, ORcpt: "rfc822;b"}}}, sentEnvelope{ORcpt: map[string]string{name: "rfc822;b"}}},
		"the null sender":    {"acme", mail.Envelope{EnvID: "QQ"}, sentEnvelope{}},
		"nothing comes back": {"globex", mail.Envelope{From: from, EnvID: "QQ"}, sentEnvelope{}},
	} {
		t.Run(what, func(t *testing.T) {
			s.store = memory.New()
			if err := s.store.Commit(t.Context(), &custody.Batch{Put: s.remember(dir, c.of, id, c.envelope)}); err != nil {
				t.Fatal(err)
			}
			got, err := s.sent(t.Context(), id)
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
}

// What cannot be read is not guessed: the report goes over TLS alone, as it may have been
// asked for. After the time of reports it is forgotten.
func TestADamagedEnvelopeKeepsReportsToTLSAndIsForgottenInTime(t *testing.T) {
	s, _ := returnsOf(t)
	s.list = newReturns(s.store, make([]byte, 32), s.log).list
	id := mail.NewID(noon)
	if err := s.store.Commit(t.Context(), &custody.Batch{Put: []custody.Record{{Key: toldPrefix + string(id) + sentName, Value: []byte("{")}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		days int
		want sentEnvelope
	}{{0, sentEnvelope{RequireTLS: true}}, {2 * bounce.ReturnDays, sentEnvelope{RequireTLS: true}}, {2*bounce.ReturnDays + 1, sentEnvelope{}}} {
		if err := s.sweep(t.Context(), noon.Add(time.Duration(c.days)*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		got, err := s.sent(t.Context(), id)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("after %d days: %v, -want +got:\n%s", c.days, err, diff)
		}
	}
}
