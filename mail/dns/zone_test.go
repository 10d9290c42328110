package dns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/mail"
)

func TestBadZonesAreRefusedWithTheirPlace(t *testing.T) {
	for _, tt := range []struct{ zone, want string }{
		{``, "zone"},
		{`[]`, "zone"},
		{`{"a.example": {}} {}`, "follows"},
		{`{"a.example": {"TXXT": []}}`, "TXXT"},
		{`{"a.example": {"A": ["2001:db8::1"]}}`, "a.example"},
		{`{"a.example": {"A": ["one"]}}`, "one"},
		{`{"a.example": {"AAAA": ["192.0.2.1"]}}`, "AAAA"},
		{`{"a.example": {"MX": [["mx", 10]]}}`, "MX"},
		{`{"a.example": {"MX": [[10]]}}`, "1 values"},
		{`{"a.example": {"MX": [[70000, "mx"]]}}`, "70000"},
		{`{"a.example": {"TLSA": [[3, 1, 1, "xy"]]}}`, "invalid byte"},
		{`{"a.example": {"TXT": [1]}}`, "number"},
		{`{"a.example": {"FAULT": "yes"}}`, "string"},
		{`{"a.example": {"FAULT": {"kode": "x"}}}`, "kode"},
		{`{"a.example": {"FAULT": {"code": "EGG"}}}`, "EGG"},
		{`{"a.example": {}, "A.Example.": {}}`, "twice"},
	} {
		if _, err := ParseZone([]byte(tt.zone)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want something about %q", tt.zone, err, tt.want)
		}
	}
}

func TestRecordsCanBeSetWhileTheZoneIsUsed(t *testing.T) {
	var z Zone // the zero Zone is empty
	if _, err := z.TXT(ctxAll, "a.example"); err == nil {
		t.Error("an empty zone answers")
	}
	z.SetTXT("A.example.", "one")
	z.SetMX("a.example", mail.MX{Preference: 1, Host: "mx.example"})
	if a, err := z.TXT(ctxAll, "a.example"); err != nil || a.Records[0] != "one" {
		t.Errorf("%v, %v", a, err)
	}
	z.SetFault("a.example", true)
	if _, err := z.TXT(ctxAll, "a.example"); err == nil {
		t.Error("no fault")
	}
	z.SetFault("a.example", false)
	if a, err := z.MX(ctxAll, "a.example"); err != nil || a.Records[0].Host != "mx.example" {
		t.Errorf("%v, %v", a, err)
	}
	z.SetCNAME("b.example", "a.example")
	z.SetTLSA("a.example", mail.TLSA{Usage: 3})
	if a, err := z.TLSA(ctxAll, "b.example"); err != nil || a.Records[0].Usage != 3 {
		t.Errorf("%v, %v", a, err)
	}
	z.Set("a.example", Records{})
	if a, err := z.TXT(ctxAll, "b.example"); err != nil || len(a.Records) != 0 {
		t.Errorf("%v, %v", a, err)
	}
}

// TestZonesOfOthersLoad reads the zones that come with the shared suites.
func TestZonesOfOthersLoad(t *testing.T) {
	dir := os.Getenv("ANECHOIC_SUITES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "suites")
	}
	files, err := filepath.Glob(filepath.Join(dir, "zones", "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("the shared suites are not here; set ANECHOIC_SUITES to their folder")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseZone(data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// FuzzParseZone: what loads can be asked for everything, by itself and on the wire.
func FuzzParseZone(f *testing.F) {
	f.Add([]byte(conformanceZone), "alias.example")
	f.Add([]byte(`{"a.example": {"FAULT": {"except": ["TXT"]}, "CNAME": "a.example"}}`), "a.example")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		z, err := ParseZone(data)
		if err != nil {
			return
		}
		z.TXT(ctxAll, name)
		z.MX(ctxAll, name)
		z.Addresses(ctxAll, name)
		z.CNAME(ctxAll, name)
		z.TLSA(ctxAll, name)
	})
}

// FuzzName: what is accepted is in one form only, and packs.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a.example", "A..b", `a\.b`, "x@y;z", strings.Repeat("a.", 130), "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		fqdn, err := canonical(name)
		if err != nil {
			return
		}
		if _, err := newQuery(question{fqdn, 1}, false).Pack(); err != nil {
			t.Errorf("%q does not pack: %v", fqdn, err)
		}
		if host, err := hostName(fqdn); err == nil {
			if again, err := canonical(host); err != nil || again != fqdn {
				t.Errorf("%q became %q: %v", fqdn, again, err)
			}
		}
	})
}
