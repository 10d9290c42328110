package screen

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

// scripted is a scanner that says what a test tells it.
type scripted struct {
	name string
	ask  func(context.Context) (Opinion, error)
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Ask(ctx context.Context, _ *Question) (Opinion, error) { return s.ask(ctx) }

func (s *scripted) Ping(context.Context) error { return nil }

func saying(o Opinion) *scripted {
	return &scripted{name: "scripted", ask: func(context.Context) (Opinion, error) { return o, nil }}
}

func silent() *scripted {
	return &scripted{name: "silent", ask: func(ctx context.Context) (Opinion, error) {
		<-ctx.Done()
		return Opinion{}, ctx.Err()
	}}
}

func TestTheStrictestOpinionWins(t *testing.T) {
	spam, virus := Opinion{Action: Refuse, Reason: mail.ReasonContentRefused}, Opinion{Action: Refuse, Reason: mail.ReasonMalware}
	pass, mark, hold, later := Opinion{Action: Pass}, Opinion{Action: Mark}, Opinion{Action: Hold}, Opinion{Action: Defer}
	for name, c := range map[string]struct {
		opinions []Opinion
		rules    Rules
		action   Action
		code     int
		reason   mail.Reason
	}{
		"no scanner":                    {action: Pass},
		"all pass":                      {opinions: []Opinion{pass, pass}, action: Pass},
		"one marks":                     {opinions: []Opinion{pass, mark, pass}, action: Mark},
		"hold before mark":              {opinions: []Opinion{mark, hold}, action: Hold, code: 451, reason: mail.ReasonContentRefused},
		"a loss is no pass":             {opinions: []Opinion{pass, {}}, action: Lost, code: 451, reason: mail.ReasonScreeningLost},
		"a loss before hold":            {opinions: []Opinion{hold, {}}, action: Lost, code: 451, reason: mail.ReasonScreeningLost},
		"a loss that is held":           {opinions: []Opinion{pass, {}}, rules: Rules{HoldLoss: true}, action: Hold, code: 451, reason: mail.ReasonScreeningLost},
		"later before a loss":           {opinions: []Opinion{{}, later}, rules: Rules{HoldLoss: true}, action: Defer, code: 451, reason: mail.ReasonContentRefused},
		"a refusal before a loss":       {opinions: []Opinion{{}, spam}, action: Refuse, code: 550, reason: mail.ReasonContentRefused},
		"malware before spam":           {opinions: []Opinion{spam, virus}, action: Refuse, code: 550, reason: mail.ReasonMalware},
		"malware before spam, reversed": {opinions: []Opinion{virus, spam}, action: Refuse, code: 550, reason: mail.ReasonMalware},
		"an action that is none":        {opinions: []Opinion{{Action: 77}}, action: 77, code: 451, reason: mail.ReasonScreeningLost},
	} {
		v := sum(c.opinions)
		if c.rules.HoldLoss {
			v = v.holdLoss()
		}
		if v.Action != c.action || v.Reason != c.reason {
			t.Errorf("%s: %v %q", name, v.Action, v.Reason)
		}
		if r := v.Refusal(); (c.code == 0) != (r == nil) || r != nil && (r.Code() != c.code || r.Reason() != c.reason) {
			t.Errorf("%s: it is answered with %v", name, r)
		}
	}
}

func TestTheZeroVerdictIsNoPass(t *testing.T) {
	if r := (Verdict{}).Refusal(); r == nil || r.Reason() != mail.ReasonScreeningLost || !r.Temporary() {
		t.Errorf("it is answered with %v", r)
	}
}

// TestNoOpinionMakesAVerdictMilder whatever the others say.
func TestNoOpinionMakesAVerdictMilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opinion := rapid.Custom(func(t *rapid.T) Opinion {
			return Opinion{Action: rapid.SampledFrom(Actions()).Draw(t, "action"), Reason: rapid.SampledFrom([]mail.Reason{"", mail.ReasonMalware}).Draw(t, "reason")}
		})
		opinions := rapid.SliceOf(opinion).Draw(t, "opinions")
		one := opinion.Draw(t, "one more")
		before, after := sum(opinions), sum(append(opinions, one))
		if after.Action.rank() < before.Action.rank() || after.Action.rank() < one.Action.rank() {
			t.Fatalf("%v and %v make %v", before.Action, one.Action, after.Action)
		}
		if refusal := after.Refusal(); one.Action == Lost && (refusal == nil || after.holdLoss().Refusal() == nil) {
			t.Fatalf("with a loss: %v", refusal)
		}
	})
}

func TestASilentScannerIsLostAfterTheTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Scanners: []Scanner{saying(Opinion{Action: Pass}), silent()}, Timeout: 10 * time.Second})
		began := time.Now()
		if v := s.Ask(t.Context(), question(t, plain)); v.Action != Lost {
			t.Errorf("%v: %s", v.Action, v.Detail())
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAScannerLostInARowIsLeftAloneAndThenAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, back := 0, false
		flaky := &scripted{name: "flaky", ask: func(ctx context.Context) (Opinion, error) {
			asked++
			if back {
				return Opinion{Action: Pass}, nil
			}
			return Opinion{}, errors.New("refused")
		}}
		s := New(Options{Scanners: []Scanner{flaky}, Losses: 3, Rest: time.Minute})
		expect := func(action Action, questions int, c Circuit) {
			t.Helper()
			if v := s.Ask(t.Context(), question(t, plain)); v.Action != action || asked != questions || s.States(time.Now())[0].Circuit != c {
				t.Fatalf("%v after %d questions, circuit %v: %s", v.Action, asked, s.States(time.Now())[0].Circuit, v.Detail())
			}
		}
		expect(Lost, 1, Closed)
		expect(Lost, 2, Closed)
		expect(Lost, 3, Open)
		expect(Lost, 3, Open)
		time.Sleep(time.Minute)
		expect(Lost, 4, Open) // one probe, and it rests again
		expect(Lost, 4, Open)
		time.Sleep(time.Minute)
		back = true
		expect(Pass, 5, Closed)
		want := map[Action]uint64{Lost: 6, Pass: 1, Mark: 0, Hold: 0, Defer: 0, Refuse: 0}
		if diff := cmp.Diff(want, s.States(time.Now())[0].Counts); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOnlyOneQuestionProbesAScanner(t *testing.T) {
	now := time.Unix(0, 0)
	b := breaker{after: 1, rest: time.Minute}
	first, _ := b.admit(now)
	late, _ := b.admit(now)
	b.settle(first, true, now)
	now = now.Add(time.Minute)
	probe, ok := b.admit(now)
	if !ok || b.state(now) != HalfOpen {
		t.Fatal("no probe after the rest")
	}
	if _, ok := b.admit(now); ok {
		t.Error("two probes at a time")
	}
	b.settle(late, true, now) // it was asked before, and does not end the probe
	if _, ok := b.admit(now.Add(2 * time.Minute)); ok {
		t.Error("a second probe beside the first")
	}
	b.abandon(probe)
	if _, ok := b.admit(now.Add(2 * time.Minute)); !ok {
		t.Error("no probe after one that was abandoned")
	}
}

func TestACallerWhoGivesUpIsNoLossOfTheScanner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Scanners: []Scanner{silent()}, Losses: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if v := s.Ask(ctx, question(t, plain)); v.Action != Lost {
			t.Errorf("%v", v.Action)
		}
		if c := s.States(time.Now())[0].Circuit; c != Closed {
			t.Errorf("the circuit is %v", c)
		}
	})
}

func TestWhoWaitsTooLongForAPlaceIsLostAndTheScannerIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		busy := &scripted{name: "busy", ask: func(context.Context) (Opinion, error) { <-release; return Opinion{Action: Pass}, nil }}
		s := New(Options{Scanners: []Scanner{busy}, Places: 1, Losses: 1, Timeout: time.Second})
		first := make(chan Verdict, 1)
		go func() { first <- s.Ask(t.Context(), question(t, plain)) }()
		synctest.Wait()
		if v := s.Ask(t.Context(), question(t, plain)); v.Action != Lost {
			t.Errorf("%v", v.Action)
		}
		close(release)
		if v := <-first; v.Action != Pass || s.States(time.Now())[0].Circuit != Closed {
			t.Errorf("the first: %v, circuit %v", v.Action, s.States(time.Now())[0].Circuit)
		}
	})
}

func TestAFaultOverAnAnswerIsALoss(t *testing.T) {
	s := New(Options{Scanners: []Scanner{&scripted{name: "fault", ask: func(context.Context) (Opinion, error) { panic("a fault") }}}})
	if v := s.Ask(context.Background(), question(t, plain)); v.Action != Lost {
		t.Errorf("%v", v.Action)
	}
}

func TestAMarkedMessageGetsTheFieldThatIsConfigured(t *testing.T) {
	marks := saying(Opinion{Action: Mark, Findings: []Finding{{Scanner: "rspamd", Rule: "add header", Score: 7.25}}})
	for field, want := range map[string]string{"": "", "X-Spam": "X-Spam: Yes, rspamd=7.25\r\n"} {
		v := New(Options{Scanners: []Scanner{marks}, MarkField: field}).Ask(context.Background(), question(t, plain))
		var got string
		for _, f := range v.Headers {
			got += string(f.Raw())
		}
		if got != want {
			t.Errorf("with %q it adds %q", field, got)
		}
	}
}

func TestNoFieldIsAddedToWhatDoesNotGoOn(t *testing.T) {
	adds := Opinion{Action: Pass, Headers: []mail.Field{mail.NewField("X-Seen", "yes")}}
	if v := sum([]Opinion{adds, {Action: Refuse}}); len(v.Headers) > 0 {
		t.Errorf("%d fields", len(v.Headers))
	}
}

func TestScannersAreNearOnly(t *testing.T) {
	for text, want := range map[string]Endpoint{
		"http://127.0.0.1:11333":  {"tcp", "127.0.0.1:11333"},
		"http://[::1]:11333/":     {"tcp", "[::1]:11333"},
		"http://10.1.2.3:11333":   {"tcp", "10.1.2.3:11333"},
		"http://[fd00::5]:11333":  {"tcp", "[fd00::5]:11333"},
		"http://rspamd:11333":     {"tcp", "rspamd:11333"},
		"unix:/run/rspamd/normal": {"unix", "/run/rspamd/normal"},
		"http://192.0.2.1:11333":  {},
		"http://[2001:db8::1]:80": {},
		"http://0.0.0.0:11333":    {},
		"https://127.0.0.1:11333": {},
		"http://127.0.0.1":        {},
		"http://127.0.0.1:0":      {},
		"http://127.0.0.1:80/x":   {},
		"http://u:p@127.0.0.1:80": {},
		"unix:run/rspamd":         {},
		"127.0.0.1:11333":         {},
		"":                        {},
	} {
		e, err := ParseRspamd(text)
		if e != want || (err != nil) != want.IsZero() {
			t.Errorf("%q is %+v, %v", text, e, err)
		}
		if again, err := ParseRspamd(e.RspamdText()); err == nil && again != e {
			t.Errorf("%q is written %q", text, e.RspamdText())
		}
	}
	if _, err := (Endpoint{"tcp", "192.0.2.1:9"}).dial(context.Background()); err == nil {
		t.Error("a far address was dialled")
	}
}
