package signing

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/standard/dkim"
)

func TestListDescribesEveryKey(t *testing.T) {
	b := newBench(t)
	b.publish(t, acmeRSA)
	b.zone.SetFault(globexKey.RecordName(), true)
	var got []map[string]any
	text, err := json.Marshal(b.List(context.Background(), b.dir, noon))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	line := func(ref KeyRef, published bool, detail string) map[string]any {
		want := map[string]any{
			"org": string(ref.Organisation), "domain": ref.Domain.String(), "selector": ref.Selector,
			"algorithm": string(ref.Algorithm), "record_name": ref.RecordName(),
			"record_value": dkim.RecordValue(public(t, b.keys, ref)), "published": published,
			"stage": "added", "signs": published, "managed_by": "file",
		}
		if published {
			want["stage"] = "active"
		}
		if detail != "" {
			want["detail"] = detail
		}
		return want
	}
	want := []map[string]any{
		line(acmeRSA, true, ""),
		line(acmeEd, false, "the name does not exist"),
		line(globexKey, false, got[2]["detail"].(string)),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if detail := got[2]["detail"].(string); !strings.Contains(detail, "look-up failed") {
		t.Errorf("detail is %q", detail)
	}
}

func TestWhoPublishesARecordSeesItInTheList(t *testing.T) {
	b := newBench(t)
	if got := b.describe(context.Background(), acmeRSA, Life{}, noon); got.Published {
		t.Errorf("got %+v", got)
	}
	b.publish(t, acmeRSA)
	if got := b.describe(context.Background(), acmeRSA, Life{}, noon.Add(failureFresh)); !got.Published {
		t.Errorf("got %+v", got)
	}
	b.zone.Remove(acmeRSA.RecordName())
	if got := b.describe(context.Background(), acmeRSA, Life{}, noon.Add(time.Minute)); got.Published {
		t.Errorf("got %+v", got)
	}
}

func TestKeyThatIsNotThereIsDescribedSo(t *testing.T) {
	b := newBench(t)
	ref := acmeRSA
	ref.Selector = "other"
	if got := b.describe(context.Background(), ref, Life{}, noon); got.RecordValue != "" || got.Published || !strings.Contains(got.Detail, "no such key") {
		t.Errorf("got %+v", got)
	}
}

func TestLongRecordsAreWrittenInStringsOf255Octets(t *testing.T) {
	for _, n := range []int{0, 1, 254, 255, 256, 510, 511} {
		value := strings.Repeat("k", n)
		parts := SplitTXT(value)
		if strings.Join(parts, "") != value {
			t.Errorf("%d octets: the strings do not join to the value", n)
		}
		for i, part := range parts {
			if len(part) > 255 || part == "" && n > 0 {
				t.Errorf("%d octets: string %d has %d", n, i, len(part))
			}
		}
	}
	value := "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 250)
	want := `an1._domainkey.acme.test. IN TXT ( "v=DKIM1; k=rsa; p=` + strings.Repeat("A", 237) + `" "` + strings.Repeat("A", 13) + `" )`
	if got := ZoneLine("an1._domainkey.acme.test", value); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := ZoneLine("a.test", `say "hi" \`); got != `a.test. IN TXT ( "say \"hi\" \\" )` {
		t.Errorf("got %s", got)
	}
}
