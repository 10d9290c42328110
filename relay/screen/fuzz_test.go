package screen

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"strings"
	"testing"

	"anechoic/mail"
)

// fitsTheLedger checks what any opinion must keep.
func fitsTheLedger(t *testing.T, o Opinion) {
	t.Helper()
	for _, f := range o.Findings {
		for _, text := range []string{f.Scanner, f.Rule, f.Text} {
			if safe(text, maxText) != text {
				t.Errorf("not fit for a log: %q", text)
			}
		}
		if math.IsNaN(f.Score) || math.Abs(f.Score) > maxScore {
			t.Errorf("score %v", f.Score)
		}
	}
	for _, field := range o.Headers {
		h, err := mail.ParseHeader(field.Raw(), mail.HeaderLimits{})
		if err != nil || len(h.Fields) != 1 || !h.Fields[0].Is("X-Seen") {
			t.Errorf("it adds %q", field.Raw())
		}
	}
	if v := sum([]Opinion{o}); (v.Refusal() == nil) != (o.Action == Pass || o.Action == Mark) {
		t.Errorf("%v is answered with %v", o.Action, v.Refusal())
	}
}

func FuzzRspamdReply(f *testing.F) {
	f.Add([]byte(passes))
	f.Add([]byte(`{"score":20,"action":"reject","symbols":{"CLAM_VIRUS":{"score":20,"options":["Eicar"]}}}`))
	f.Add([]byte(`{"action":"no action","score":0,"symbols":{"CLAM_VIRUS_FAIL":{"score":0}}}`))
	f.Add([]byte(`{"score":1e999,"action":"no action"}`))
	f.Add([]byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r, err := parseRspamdReply(answer)
		if err != nil {
			return
		}
		if strings.Count(string(answer), `"action"`) == 0 && !bytes.Contains(answer, []byte(`\u`)) {
			t.Errorf("an action out of nothing: %+v", r)
		}
		plain, strict := r.opinion(Rules{}), r.opinion(Rules{HoldAt: 5, RefuseAt: 10})
		fitsTheLedger(t, plain)
		fitsTheLedger(t, strict)
		if strict.Action.rank() < plain.Action.rank() {
			t.Errorf("rules made %v of %v", strict.Action, plain.Action)
		}
	})
}

func FuzzClamdReply(f *testing.F) {
	for _, s := range []string{"stream: OK\x00", "stream: Eicar-Test FOUND\x00", "INSTREAM size limit exceeded. ERROR\x00", "stream: Heuristics.Encrypted.Zip FOUND\x00", "stream: OK\x00stream: OK\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		whole, err := readClamdReply(bytes.NewReader(answer))
		if err != nil {
			return
		}
		o, err := clamdOpinion(whole)
		if err != nil {
			return
		}
		fitsTheLedger(t, o)
		if o.Action == Pass && string(answer) != "stream: OK\x00" {
			t.Errorf("%q passes", answer)
		}
	})
}

func FuzzMilterReply(f *testing.F) {
	hello := negotiated(offered, quiet)
	f.Add([]byte(hello + packet(replyAccept, "")))
	f.Add([]byte(hello + packet(replyAddHeader, "X-Seen\x00a\n b\x00") + packet(replyQuarantine, "why\x00") + packet(replyContinue, "")))
	f.Add([]byte(hello + packet(replyProgress, "") + packet(replyCode, "550 5.7.1 no\x00")))
	f.Add([]byte(hello + packet(replyChgHeader, "\x00\x00\x00\x01From\x00x\x00") + packet(replyDiscard, "")))
	f.Add([]byte(negotiated(0, quiet&^noHelo) + packet(replyContinue, "") + packet(replyTempFail, "")))
	f.Fuzz(func(t *testing.T, answers []byte) {
		s := &milterSession{milter: &Milter{Headers: []string{"X-Seen"}}, r: bufio.NewReader(bytes.NewReader(answers)), w: bufio.NewWriter(io.Discard)}
		if err := s.negotiate(); err != nil {
			return
		}
		o, err := s.run(question(t, plain))
		if err == nil {
			fitsTheLedger(t, o)
		}
	})
}
