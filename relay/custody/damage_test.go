package custody_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// decayed is an engine on a disk that gives some blocks back otherwise than they were
// written: what is in them, and a scan that comes to them, is custody.ErrDamaged.
type decayed struct {
	*memory.Engine
	blocks [][2]string // first and last key of each
}

func (d *decayed) damaged(key string) bool {
	return slices.ContainsFunc(d.blocks, func(b [2]string) bool { return b[0] <= key && key <= b[1] })
}

func (d *decayed) Get(ctx context.Context, key string) ([]byte, error) {
	if d.damaged(key) {
		return nil, fmt.Errorf("%s: %w", key, custody.ErrDamaged)
	}
	return d.Engine.Get(ctx, key)
}

func (d *decayed) Scan(ctx context.Context, prefix, from string, visit func(string, []byte) bool) (err error) {
	scanned := d.Engine.Scan(ctx, prefix, from, func(key string, value []byte) bool {
		if d.damaged(key) {
			err = fmt.Errorf("scan %s: %w", prefix, custody.ErrDamaged)
			return false
		}
		return visit(key, value)
	})
	if err != nil {
		return err
	}
	return scanned
}

func recipientRecord(id mail.ID, n int) string { return fmt.Sprintf("recipient/%s/%08x", id, n) }

// rows keeps messages to two recipients each, a minute apart.
func rows(t testing.TB, engine custody.Engine, n int) (ids []mail.ID) {
	t.Helper()
	q := open(t, engine)
	defer q.Close()
	for i := range n {
		at := noon.Add(time.Duration(i) * time.Minute)
		s := submission(fmt.Sprintf("a%d@one.test", i), fmt.Sprintf("b%d@two.test", i))
		s.ID = mail.NewID(at)
		ids = append(ids, keep(t, q, s, at))
	}
	return ids
}

// leasedOf gives the messages of which something is leased.
func leasedOf(t testing.TB, q *custody.Queue) map[mail.ID]int {
	t.Helper()
	found := map[mail.ID]int{}
	for _, l := range leaseAll(t, q, noon.Add(3*time.Hour)) {
		found[l.ID] += len(l.Recipients)
	}
	return found
}

func setAsideFacts(t testing.TB, e custody.Engine) map[mail.ID]int {
	t.Helper()
	found := map[mail.ID]int{}
	for _, f := range facts(t, e) {
		if f.Event == ledger.SetAside {
			found[f.ID]++
		}
	}
	return found
}

func TestABlockOfMessagesThatDecayedIsSetAsideAndTheRestGoesOn(t *testing.T) {
	engine := &decayed{Engine: memory.New()}
	ids := rows(t, engine, 20)
	engine.blocks = [][2]string{{"message/" + string(ids[5]), "message/" + string(ids[8])}}
	for start := range 2 { // the block is still there at the next start
		q := open(t, engine)
		leased := leasedOf(t, q)
		for i, id := range ids {
			want := 2
			if i >= 5 && i <= 8 {
				want = 0
			}
			if leased[id] != want {
				t.Errorf("start %d: %d recipients of message %d were leased, want %d", start, leased[id], i, want)
			}
		}
		q.Close()
	}
	told := setAsideFacts(t, engine)
	for i, id := range ids[5:9] {
		if told[id] != 2 {
			t.Errorf("message %d: %d facts say that a recipient was set aside, want 2", 5+i, told[id])
		}
	}
	if told[""] != 2 || len(told) != 5 {
		t.Errorf("facts %v", told)
	}
	kept := 0
	for _, k := range keys(t, engine.Engine) {
		if strings.HasPrefix(k, "aside/recipient/") {
			kept++
		}
	}
	if kept != 8 {
		t.Errorf("%d recipients are aside, want 8", kept)
	}
}

func TestABlockOfRecipientsThatDecayedSetsTheirMessagesAsideAndTheRestGoesOn(t *testing.T) {
	engine := &decayed{Engine: memory.New()}
	ids := rows(t, engine, 20)
	// The second recipient of the fifth message, all of the next two, the first of another.
	engine.blocks = [][2]string{{recipientRecord(ids[5], 1), recipientRecord(ids[8], 0)}}
	q := open(t, engine)
	defer q.Close()
	leased := leasedOf(t, q)
	for i, id := range ids {
		want := 2
		switch i {
		case 5:
			want = 1
		case 6, 7, 8:
			want = 0
		}
		if leased[id] != want {
			t.Errorf("%d recipients of message %d were leased, want %d", leased[id], i, want)
		}
	}
	told := setAsideFacts(t, engine)
	for i := 5; i <= 8; i++ {
		if told[ids[i]] == 0 {
			t.Errorf("no fact tells that message %d was set aside", i)
		}
		if _, err := engine.Engine.Get(ctx, "aside/message/"+string(ids[i])); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		if _, err := engine.OpenBody(ctx, string(ids[i])); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if told[ids[4]]+told[ids[9]] > 0 {
		t.Error("what was read whole is said to be damaged")
	}
}

func TestABlockThatDecaysWhileTheRelayRunsCostsItsMessagesOnly(t *testing.T) {
	engine := &decayed{Engine: memory.New()}
	ids := rows(t, engine, 10)
	q := open(t, engine)
	defer q.Close()
	engine.blocks = [][2]string{
		{recipientRecord(ids[3], 0), recipientRecord(ids[3], 1)}, {"message/" + string(ids[6]), "message/" + string(ids[6])},
	}
	entries, _, err := q.List(ctx, custody.Filter{})
	if err != nil || len(entries) != 9 || !strings.Contains(entries[3].Recipients[0].LastReply, "damaged") {
		t.Errorf("%d messages are listed, %v", len(entries), err)
	}
	if done, err := q.Hold(ctx, custody.Filter{}, mail.ReasonHeld, noon); err != nil || done.Recipients != 18 { // of message 6 it needs the recipients alone
		t.Errorf("held %+v, %v", done, err)
	}
	if _, err := q.Release(ctx, custody.Filter{}, noon); err != nil {
		t.Error(err)
	}
	leased := leasedOf(t, q)
	for i, id := range ids {
		want := 2
		if i == 3 || i == 6 {
			want = 0
		}
		if leased[id] != want {
			t.Errorf("%d recipients of message %d were leased, want %d", leased[id], i, want)
		}
	}
	told := setAsideFacts(t, engine)
	if told[ids[3]] == 0 || told[ids[6]] == 0 || len(told) != 2 {
		t.Errorf("facts %v", told)
	}
}

// Whatever decays: the reading ends, what is leased was kept and reads back, and of what
// is not the ledger tells.
func TestWhateverDecaysTheRestIsDeliveredAndNothingIsLostSilently(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := memory.New()
		engine := &decayed{Engine: base}
		q, err := custody.OpenQueue(ctx, engine, options)
		if err != nil {
			t.Fatal(err)
		}
		ids := map[mail.ID]int{}
		at := noon
		for i := range rapid.IntRange(1, 30).Draw(t, "messages") {
			at = at.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1000, 3600_000}).Draw(t, "later")) * time.Millisecond)
			var to []string
			for n := range rapid.IntRange(1, 4).Draw(t, "recipients") {
				to = append(to, fmt.Sprintf("r%d@d%d.test", i, n))
			}
			s := submission(to...)
			s.ID = mail.NewID(at)
			if _, err := q.Keep(ctx, s, at); err != nil {
				t.Fatal(err)
			}
			ids[s.ID] = len(to)
		}
		q.Close()
		var all []string
		_ = base.Scan(ctx, "", "", func(k string, _ []byte) bool {
			if strings.HasPrefix(k, "message/") || strings.HasPrefix(k, "recipient/") {
				all = append(all, k)
			}
			return true
		})
		for range rapid.IntRange(1, 3).Draw(t, "blocks") {
			first := rapid.IntRange(0, len(all)-1).Draw(t, "first")
			last := min(first+rapid.IntRange(0, 8).Draw(t, "length"), len(all)-1)
			for all[last][:4] != all[first][:4] { // a block holds what is next to each other in the store
				last--
			}
			engine.blocks = append(engine.blocks, [2]string{all[first], all[last]})
		}
		q, next, err := custody.OpenInSteps(ctx, engine, options, rapid.IntRange(1, 8).Draw(t, "step"))
		if err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			if more, err = next(); err != nil {
				t.Fatal(err)
			}
		}
		leases, err := q.Lease(ctx, at.Add(time.Hour), 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		leased := map[mail.ID]int{}
		for _, l := range leases {
			leased[l.ID] += len(l.Recipients)
			if _, _, err := q.Load(ctx, l); err != nil {
				t.Fatal(err)
			}
		}
		told := toldOf(base)
		for id, n := range ids {
			if leased[id] > n || leased[id] < n && !told.about(id, n) {
				t.Fatalf("%d of %d recipients of %s were leased and nothing tells why", leased[id], n, id)
			}
		}
	})
}

// told is what the ledger tells of damage: messages, and stretches of keys.
type told struct {
	ids       map[mail.ID]bool
	stretches [][2]string
}

func toldOf(e custody.Engine) told {
	t := told{ids: map[mail.ID]bool{}}
	_ = ledger.Read(ctx, e, 0, func(f ledger.Fact) bool {
		var after, next string
		switch n, _ := fmt.Sscanf(f.Detail, "what is between %s and %s cannot be read", &after, &next); {
		case f.Event != ledger.SetAside:
		case n == 2:
			t.stretches = append(t.stretches, [2]string{after, next})
		default:
			t.ids[f.ID] = true
		}
		return true
	})
	return t
}

// about says that it tells of a message: by its id, or because a record of it is in a
// stretch that it names.
func (t told) about(id mail.ID, recipients int) bool {
	records := []string{"message/" + string(id)}
	for n := range recipients {
		records = append(records, recipientRecord(id, n))
	}
	return t.ids[id] || slices.ContainsFunc(records, func(key string) bool {
		return slices.ContainsFunc(t.stretches, func(s [2]string) bool { return s[0] < key && key < s[1] })
	})
}
