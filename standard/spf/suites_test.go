package spf

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// suites are the releases of the openspf suite, with the number of their cases.
var suites = map[string]int{
	"openspf/test/rfc4408-tests":                                 191,
	"mailauth-openspf-2/test/fixtures/spf/rfc7208-tests-2014-05": 193,
}

type scenario struct {
	Description string
	Tests       map[string]suiteCase
	Zone        zone `json:"zonedata"`
}

type suiteCase struct {
	HELO, Host, MailFrom string
	Result               oneOrMore
	Explanation          string
}

// request is the case as a session. The suites say "DEFAULT" for no explanation.
func (c suiteCase) request() Request {
	return Request{IP: netip.MustParseAddr(c.Host), HELO: c.HELO, MailFrom: c.MailFrom, Receiver: "unittest"}
}

// oneOrMore is a result, or a list of those that are all right.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

func readSuite(t testing.TB, name string) []scenario {
	b, err := os.ReadFile(filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "spf", filepath.FromSlash(name)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []scenario
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].Zone = list[i].Zone.prepare()
	}
	return list
}

func TestOpenSPFSuites(t *testing.T) {
	for name, want := range suites {
		t.Run(filepath.Base(name), func(t *testing.T) {
			n := 0
			for _, s := range readSuite(t, name) {
				for id, c := range s.Tests {
					n++
					got := Check(context.Background(), s.Zone, c.request())
					if !slices.Contains(c.Result, got.Status.String()) {
						t.Errorf("%s, %s: %s (%v), want %v", s.Description, id, got.Status, got.Err, c.Result)
					}
					if want := c.Explanation; want != "" && want != got.Explanation && (want != "DEFAULT" || got.Explanation != "") {
						t.Errorf("%s, %s: explanation %q, want %q", s.Description, id, got.Explanation, want)
					}
				}
			}
			if n != want {
				t.Errorf("%d cases were run, the suite has %d", n, want)
			}
		})
	}
}
