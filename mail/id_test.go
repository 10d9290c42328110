package mail

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIdentifiersAreInOrderOfTime(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var ids []ID
	for i := range 200 {
		ids = append(ids, NewID(start.Add(time.Duration(i*i)*time.Millisecond)))
	}
	ids = append(ids, NewID(start.AddDate(300, 0, 0)))
	if !slices.IsSorted(ids) {
		t.Error("not in order")
	}
	for _, id := range ids {
		if len(id) != 26 || !id.Valid() || strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("%q", id)
		}
	}
}

func TestIdentifiersOfOneMomentDiffer(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		seen[NewID(time.Unix(0, 0))] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different of 1000", len(seen))
	}
}

func TestWhatIsNoIdentifier(t *testing.T) {
	id := NewID(time.Now())
	for _, bad := range []ID{"", id[:25], id + "a", id + "\n", "\r\n" + id, ID(strings.ToUpper(string(id))), id[:25] + "z", id[:13] + "-" + id[14:], "../../../../../../etc/passw"} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

func TestAnIdentifierTellsWhenItWasMade(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 30, 1, 987654321, time.UTC)
	at, ok := NewID(now).Time()
	if !ok || !at.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("%s, %v", at, ok)
	}
	if at, ok := ID("nothing").Time(); ok {
		t.Errorf("%s", at)
	}
}
