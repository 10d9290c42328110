package ledger_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/ledger"
)

func TestAPrintReadsBack(t *testing.T) {
	for _, p := range []ledger.Print{
		{},
		{Text: 1},
		{Text: 1 << 63, Shape: 1 << 31, Signature: 7, Hosts: []string{"a.example", "b.example"}, IDHost: "mail.acme.example"},
	} {
		again, err := ledger.ParsePrint(p.String())
		if diff := cmp.Diff(p, again); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", p.String(), err, diff)
		}
		if p.IsZero() != (p.String() == "") {
			t.Errorf("%+v is %q", p, p.String())
		}
	}
}

func TestAPrintHoldsNothingThatIsNoName(t *testing.T) {
	p := ledger.Print{Hosts: []string{"z.example", "a b", "x,y", "A.example", "", "z.example", "1", "2", "3", "4"}, IDHost: "x\x1b[2J"}
	if got := p.String(); got != "hosts=1,2,3,4" {
		t.Error(got)
	}
	for _, s := range []string{"text=z", "shape=100000000", "hosts=", "hosts=b,a", "hosts=a,a", "hosts=A", "id_host=", "id_host=ä", "signature="} {
		if p, err := ledger.ParsePrint(s); err == nil {
			t.Errorf("%q is %+v", s, p)
		}
	}
}

func FuzzPrint(f *testing.F) {
	f.Add("text=00000000000000ff shape=0000000a signature=0000000000000001 hosts=a,b id_host=c later=x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ledger.ParsePrint(s)
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again ledger.Print
		if err := json.Unmarshal(text, &again); err != nil || !cmp.Equal(p, again) {
			t.Errorf("%q: %+v, then %+v, %v", s, p, again, err)
		}
	})
}
