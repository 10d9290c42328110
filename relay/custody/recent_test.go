package custody_test

import (
	"context"
	"strings"
	"testing"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// readings counts how often a body is read from the store.
type readings struct {
	custody.Engine
	bodies int
}

func (r *readings) OpenBody(ctx context.Context, name string) (custody.StoredBody, error) {
	r.bodies++
	return r.Engine.OpenBody(ctx, name)
}

// TestTheFirstAttemptTakesTheContentFromMemory: of ordinary mail, and only as much of
// it at a time as memory is meant for it. The rest is read, and is the same.
func TestTheFirstAttemptTakesTheContentFromMemory(t *testing.T) {
	const many = 100
	for name, c := range map[string]struct{ octets, messages, read int }{
		"100 KiB":                 {100 << 10, 1, 0},
		"more than is kept":       {300 << 10, 1, 1},
		"more than all may take":  {200 << 10, many, many - 16<<20/(200<<10)},
		"much less than all take": {10 << 10, many, 0},
	} {
		t.Run(name, func(t *testing.T) {
			engine := &readings{Engine: memory.New()}
			q := open(t, engine)
			body := strings.Repeat("Hello, hello!!\r\n", c.octets/16)
			for range c.messages {
				s := submission("bob@example.test")
				s.Body = mail.NewBody([]byte(body))
				keep(t, q, s, noon)
			}
			leases := leaseAll(t, q, noon)
			if len(leases) != c.messages {
				t.Fatalf("%d leases", len(leases))
			}
			for _, l := range leases {
				content, _, err := q.Load(ctx, l)
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, content); !strings.HasSuffix(got, "\r\n\r\n"+body) {
					t.Fatalf("%s has %d octets of content", l.ID, len(got))
				}
			}
			if engine.bodies != c.read {
				t.Errorf("%d contents were read, want %d", engine.bodies, c.read)
			}
		})
	}
}
