package delivery

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// bounces makes the station tell senders, and lists of which failures. The list is
// read when no attempt is under way: attempts write it side by side.
func (s *station) bounces() *[]Failure {
	told := &[]Failure{}
	var mu sync.Mutex // guards told
	s.Notice = func(ctx context.Context, b Bounce) ([]custody.Submission, error) {
		if b.Kind == NoticeFailed {
			mu.Lock()
			*told = append(*told, b.Failures...)
			mu.Unlock()
		}
		warrant, err := custody.NewNotice(b.Lease.ID, "acme")
		return []custody.Submission{{
			ID: mail.NewID(b.Now), Warrant: warrant, Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: b.Lease.Message.Envelope.From}}},
			Header: mail.Header{Fields: []mail.Field{mail.NewField("Subject", "bounce")}}, Body: mail.NewBody(nil),
		}}, err
	}
	return told
}

func TestExpiryBouncesOnceWithANotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example", "acme.example")
		told := s.bounces()
		s.answer = func(a Attempt) []Result {
			if a.Route.Site == "acme.example" {
				return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok"})
			}
			return each(a, deferred("4.4.1", "connection refused"))
		}
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(72 * time.Hour)
		s.stop()
		if len(*told) != 1 || !(*told)[0].Expired || s.left() != 0 {
			t.Fatalf("told %+v, %d recipients left", *told, s.left())
		}
		last := s.made()[len(s.made())-1]
		if last.Route.Site != "acme.example" || !last.Envelope.From.IsZero() {
			t.Errorf("the last attempt is not the bounce but %+v", last)
		}
		events := s.events()
		if got := events[len(events)-3]; got != "bounced connection refused" {
			t.Errorf("events %q", events)
		}
	})
}

func TestWhoIsToldOfAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		from   string
		notify []mail.Notify
		want   int
	}{
		"the sender":                   {"alice@acme.example", []mail.Notify{0, mail.NotifyFailure | mail.NotifySuccess}, 2},
		"not the null sender":          {"", []mail.Notify{0, mail.NotifyFailure}, 0},
		"not with NOTIFY=NEVER":        {"alice@acme.example", []mail.Notify{mail.NotifyNever, 0}, 1},
		"not with NOTIFY=SUCCESS only": {"alice@acme.example", []mail.Notify{mail.NotifySuccess, mail.NotifyDelay}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(t, "globex.example")
				told := s.bounces()
				s.answer = func(a Attempt) []Result { return each(a, failed("5.1.1", "550 5.1.1 No")) }
				rcpts := to(t, "bob@globex.example", "carol@globex.example")
				for i := range rcpts {
					rcpts[i].Notify = c.notify[i]
				}
				s.keep(c.from, rcpts...)
				s.Start()
				synctest.Wait()
				s.stop()
				if len(*told) != c.want {
					t.Errorf("told of %d failures, want %d", len(*told), c.want)
				}
			})
		})
	}
}

func TestWithoutItsBounceAFailureIsNotFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example", "acme.example")
		told := s.bounces()
		compose := s.Notice
		s.Notice = func(ctx context.Context, b Bounce) ([]custody.Submission, error) {
			if len(s.made()) == 1 {
				return nil, errors.New("no idea")
			}
			return compose(ctx, b)
		}
		s.answer = func(a Attempt) []Result { return each(a, failed("5.1.1", "550 5.1.1 No")) }
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(time.Hour)
		s.stop()
		if len(*told) != 1 || len(s.made()) != 3 || s.left() != 0 {
			t.Errorf("told %d times in %d attempts, %d left", len(*told), len(s.made()), s.left())
		}
	})
}

func TestWhatPolicyNoLongerPermitsIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.Ask = func(ctx context.Context, l *custody.Lease, c custody.Content, w custody.Warrant) *mail.Refusal {
			if w.Kind() != custody.KindNotice || len(c.Header()) == 0 {
				t.Errorf("asked with %v and %q", w, c.Header())
			}
			if len(s.events()) < 3 {
				return mail.LookupFailed
			}
			return mail.SourceNotAllowed.Because("withdrawn")
		}
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(time.Hour)
		s.stop()
		if len(s.made()) != 0 || s.queue.Depth().Held != 1 {
			t.Errorf("%d attempts, %+v", len(s.made()), s.queue.Depth())
		}
		want := []string{"accepted", "leased", "deferred " + mail.LookupFailed.Text(), "leased", "held " + mail.SourceNotAllowed.Text()}
		if diff := cmp.Diff(want, s.events()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestWhatPolicyCannotTellUntilExpiryBouncesWithANotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example", "acme.example")
		told := s.bounces()
		s.Ask = func(_ context.Context, l *custody.Lease, _ custody.Content, _ custody.Warrant) *mail.Refusal {
			if l.Message.Envelope.From.IsZero() {
				return nil
			}
			return mail.LookupFailed
		}
		s.keep("alice@acme.example", to(t, "bob@globex.example")...)
		s.Start()
		time.Sleep(48 * time.Hour)
		s.stop()
		if len(*told) != 1 || (*told)[0].Result.Enhanced != "4.4.3" || s.left() != 0 {
			t.Errorf("told %+v, %d left", *told, s.left())
		}
	})
}
