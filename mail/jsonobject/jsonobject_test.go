package jsonobject

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

type inner struct {
	Word string `json:"word"`
	Is   bool   `json:"is"`
}

type all struct {
	Text     string    `json:"text"`
	Texts    []string  `json:"texts"`
	Octets   []byte    `json:"octets"`
	Number   int64     `json:"number"`
	Unsigned uint64    `json:"unsigned"`
	True     bool      `json:"true"`
	Time     time.Time `json:"time"`
	Inner    inner     `json:"inner"`
	Value    *inner    `json:"value"`
}

func (a *all) write(t *rapid.T) []byte {
	o := Begin([]byte("before"))
	o.Text("text", a.Text)
	o.Texts("texts", a.Texts)
	o.Octets("octets", a.Octets)
	o.Number("number", a.Number)
	o.Unsigned("unsigned", a.Unsigned)
	o.True("true", a.True)
	o.Time("time", a.Time)
	o.Inner("inner", func(o *Object) { o.Text("word", a.Inner.Word); o.True("is", a.Inner.Is) })
	if a.Value != nil {
		if err := o.Value("value", a.Value); err != nil {
			t.Fatal(err)
		}
	}
	return o.End()[len("before"):]
}

func TestEncodingJSONReadsBackWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~<>&"\\]{0,20}`))
		want := all{
			Text: text.Draw(t, "text"), Texts: rapid.SliceOf(text).Draw(t, "texts"), Octets: rapid.SliceOf(rapid.Byte()).Draw(t, "octets"),
			Number: rapid.Int64().Draw(t, "number"), Unsigned: rapid.Uint64().Draw(t, "unsigned"), True: rapid.Bool().Draw(t, "true"),
			Time:  time.Unix(rapid.Int64Range(-1e9, 1e10).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC(),
			Inner: inner{text.Draw(t, "word"), rapid.Bool().Draw(t, "is")},
		}
		if rapid.Bool().Draw(t, "with a value") {
			want.Value = &inner{Word: text.Draw(t, "word of it")}
		}
		var got all
		if err := json.Unmarshal(want.write(t), &got); err != nil {
			t.Fatalf("%v in %s", err, want.write(t))
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}
