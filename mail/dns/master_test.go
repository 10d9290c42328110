package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anechoic/mail"
)

func TestAMasterFileIsReadAsItIsPrinted(t *testing.T) {
	got, err := ParseMaster(strings.NewReader(`
; as key show prints it
an1._domainkey.acme.example. IN TXT ( "v=DKIM1; k=rsa; " "p=AAAA" )
acme.example.	3600 IN	TXT "v=spf1 -all"
acme.example.	MX 10 mx.acme.example.
ACME.example.   TXT "second \"text\""
mx.acme.example. A 192.0.2.1
mx.acme.example. AAAA 2001:db8::1
1.2.0.192.in-addr.arpa. PTR mx.acme.example.
www.acme.example CNAME acme.example
acme.example. NS ns.acme.example.
`), "zone")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Records{
		"an1._domainkey.acme.example.": {TXT: []string{"v=DKIM1; k=rsa; p=AAAA"}},
		"acme.example.":                {TXT: []string{"v=spf1 -all", `second "text"`}, MX: []mail.MX{{Preference: 10, Host: "mx.acme.example"}}, NS: []string{"ns.acme.example"}},
		"mx.acme.example.":             {Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
		"1.2.0.192.in-addr.arpa.":      {PTR: []string{"mx.acme.example"}},
		"www.acme.example.":            {CNAME: "acme.example"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestAMasterFileThatIsWrongSaysWhere(t *testing.T) {
	for text, says := range map[string]string{
		"a.example. TXT \"x\"\nb.example. MX ten mx.example.": "line: 2",
		"a.example. HINFO x y":                                "HINFO",
		"$INCLUDE /etc/passwd":                                "include",
		strings.Repeat("a.example. TXT x\n", maxMaster+1):     "more than",
	} {
		if _, err := ParseMaster(strings.NewReader(text), "zone"); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(says)) {
			t.Errorf("%.40q: %v, without %q", text, err, says)
		}
	}
}

func TestALaterLayerOfAZoneStandsInPlaceOfAnEarlierOne(t *testing.T) {
	z := &Zone{}
	z.SetTXT("old.example", "x")
	z.Replace(map[string]Records{"a.example": {TXT: []string{"1"}}, "b.example": {TXT: []string{"1"}}}, map[string]Records{"B.example.": {TXT: []string{"2"}}})
	for name, want := range map[string]string{"a.example": "1", "b.example": "2", "old.example": ""} {
		got, _ := z.TXT(t.Context(), name)
		if strings.Join(got.Records, " ") != want {
			t.Errorf("%s: %v, want %q", name, got.Records, want)
		}
	}
}

func FuzzMaster(f *testing.F) {
	f.Add("a.example. IN TXT ( \"x\" \"y\" )\nb. 5 MX 1 c.\n$TTL 3\n$ORIGIN d.\ne A 1.2.3.4")
	f.Add("a TLSA 3 1 1 00\na CNAME b\n$GENERATE 1-3 x$ A 1.2.3.$")
	f.Fuzz(func(t *testing.T, text string) {
		names, err := ParseMaster(strings.NewReader(text), "zone")
		if err != nil {
			return
		}
		z := &Zone{}
		z.Replace(names)
		for name := range names {
			_, _ = z.TXT(t.Context(), name)
			_, _ = z.MX(t.Context(), name)
		}
	})
}
