package custody_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// A survey counts what a queue would read back, and what of it is damaged.
func TestASurveyCountsWhatIsThereAndWhatIsDamaged(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	defer q.Close()
	id := keep(t, q, submission("a@one.test", "b@two.test"), noon)
	held := keep(t, q, submission("c@one.test"), noon)
	if _, err := q.Hold(ctx, custody.Filter{ID: held}, mail.ReasonHeld, noon); err != nil {
		t.Fatal(err)
	}
	found, err := custody.Survey(ctx, engine, sealKey, true)
	if want := (custody.Surveyed{Messages: 2, Queued: 2, Held: 1}); err != nil || found != want {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := custody.Survey(ctx, engine, bytes.Repeat([]byte{8}, 32), false); !errors.Is(err, custody.ErrSealKey) {
		t.Errorf("with another key: %v", err)
	}
	if err := engine.Commit(ctx, &custody.Batch{DeleteBody: []string{string(id)}}); err != nil {
		t.Fatal(err)
	}
	if found, err = custody.Survey(ctx, engine, sealKey, false); err != nil || found.Damaged != 0 {
		t.Errorf("without a look at what messages hold: %+v, %v", found, err)
	}
	if found, err = custody.Survey(ctx, engine, sealKey, true); err != nil || found.Damaged != 1 || !strings.Contains(found.FirstDamage, string(id)+": its content") {
		t.Errorf("a body is gone: %+v, %v", found, err)
	}
	if err := engine.Commit(ctx, &custody.Batch{Delete: []string{"message/" + string(id)}}); err != nil {
		t.Fatal(err)
	}
	if found, err = custody.Survey(ctx, engine, sealKey, false); err != nil || found.Damaged != 1 || !strings.Contains(found.FirstDamage, "is not there") {
		t.Errorf("a message is gone: %+v, %v", found, err)
	}
}
