package limit

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPublishedFormula: the numbers that Microsoft gives as examples.
func TestPublishedFormula(t *testing.T) {
	for licences, want := range map[int]int64{0: 10_000, 1: 10_000, 2: 10_312, 10: 12_006, 25: 14_259, 100: 22_059, 1000: 72_446, 10_000: 324_979, 100_000: 1_590_639} {
		if got := MicrosoftRecipients(licences); got != want {
			t.Errorf("%d licences: %d, want %d", licences, got, want)
		}
	}
	if c, _ := Microsoft365TrialPreset.Of(1000); c.RecipientsPerDay != 5000 {
		t.Errorf("a trial: %+v", c)
	}
	if c, _ := GooglePreset.Of(250); c.UniquePerDay != 2_500_000 || c.MessagesPerDay != 2_500_000 || c.RecipientsPerDay != 4_600_000 {
		t.Errorf("250 users at Google: %+v", c)
	}
	if c, _ := GooglePreset.Of(1000); c.UniquePerDay != 4_600_000 {
		t.Errorf("a thousand users at Google: %+v", c)
	}
	if _, ok := Preset("nobody").Of(1); ok {
		t.Error("any name is a preset")
	}
}

// TestASourceGrowsWithAgeAndReception: the story of one that behaves.
func TestASourceGrowsWithAgeAndReception(t *testing.T) {
	var tr Trust
	n := Name{"acme", "app"}
	tr.Meet(n, []string{"a"}, false, noon)
	now := noon
	stand := func(confirmed bool) Standing { return tr.Stand(n, "", confirmed, now) }
	if s := stand(true); s.Tier != New || s.Next != Known || len(s.Missing) != 3 || !s.NotYet.Equal(noon.Add(7*Day)) {
		t.Errorf("at first: %+v", s)
	}
	for range 7 {
		now = now.Add(Day)
		tr.Note(n, Sent, 50, now)
		tr.Note(n, Delivered, 50, now)
	}
	if s := stand(true); s.Tier != Known || s.Next != Established {
		t.Errorf("after a week: %+v", s)
	}
	for range 40 {
		now = now.Add(Day)
		tr.Note(n, Sent, 50, now)
		tr.Note(n, Delivered, 50, now)
	}
	if s := stand(true); s.Tier != Established || s.Next != "" || len(s.Missing) > 0 {
		t.Errorf("after forty days more: %+v", s)
	}
	if s := stand(false); s.Tier != Known || len(s.Missing) != 1 || !strings.Contains(s.Missing[0], "second") {
		t.Errorf("with a password alone: %+v", s)
	}
	tr.Note(n, Bounced, 100, now)
	if s := stand(true); s.Tier != Known || !strings.Contains(s.Why, "refused for good") {
		t.Errorf("with many bounces: %+v", s)
	}
	if s := tr.Stand(n, "", true, now.Add(60*Day)); s.Tier != Established {
		t.Errorf("two months later: %+v", s)
	}
}

// TestAnotherSourceUnderAnOldNameIsNew: trust is not handed on with a name.
func TestAnotherSourceUnderAnOldNameIsNew(t *testing.T) {
	var tr Trust
	n := Name{"acme", "app"}
	tr.Meet(n, []string{"tenant a", "tenant b"}, true, noon)
	if s := tr.Stand(n, "", true, noon); s.Tier != Trusted {
		t.Fatalf("a founder: %+v", s)
	}
	tr.Meet(n, []string{"tenant b", "tenant c"}, false, noon)
	if s := tr.Stand(n, "", true, noon); s.Tier != Trusted {
		t.Errorf("with one proof replaced: %+v", s)
	}
	tr.Meet(n, []string{"tenant d"}, true, noon)
	if s := tr.Stand(n, "", true, noon); s.Tier != New {
		t.Errorf("with another proof: %+v", s)
	}
}

// TestAGrantEndsByItself, and what the registry says goes first.
func TestAGrantEndsByItself(t *testing.T) {
	var tr Trust
	n := Name{"acme", "app"}
	if tr.Grant(n, &Grant{Tier: Trusted}) {
		t.Error("a stranger was granted something")
	}
	tr.Meet(n, nil, false, noon)
	tr.Grant(n, &Grant{Tier: Established, Until: noon.Add(Day), By: "ann"})
	if s := tr.Stand(n, "", true, noon); s.Tier != Established || !strings.Contains(s.Why, "ann") {
		t.Errorf("granted: %+v", s)
	}
	if s := tr.Stand(n, New, true, noon); s.Tier != New {
		t.Errorf("the registry says new: %+v", s)
	}
	if s := tr.Stand(n, "", true, noon.Add(Day)); s.Tier != New {
		t.Errorf("a day later: %+v", s)
	}
}

// TestHistoriesOutliveARestart, with their mark; and the clock set back makes nobody
// older or younger.
func TestHistoriesOutliveARestart(t *testing.T) {
	store := &shelf{}
	tr := Trust{Prefix: "trust/"}
	n := Name{"acme", "app"}
	tr.Meet(n, []string{"a"}, false, noon)
	tr.Note(n, Delivered, 20, noon.Add(Day))
	if err := tr.Flush(t.Context(), store, noon.Add(Day), 42); err != nil {
		t.Fatal(err)
	}
	again := Trust{Prefix: "trust/"}
	mark, stored, err := again.Load(t.Context(), store, noon.Add(-Day))
	if mark != 42 || !stored || err != nil {
		t.Fatalf("mark %d, stored %t, %v", mark, stored, err)
	}
	h, ok := again.History(n)
	if !ok || h.Delivered != 20 || !h.First.Equal(noon) {
		t.Errorf("%+v", h)
	}
	if s := again.Stand(n, "", true, noon.Add(-Day)); !slices.Contains(s.Missing, "it is known for 1 of 7 days") {
		t.Errorf("%+v", s)
	}
	store.records["trust/source/acme/bad"] = []byte("[")
	if _, _, err := (&Trust{Prefix: "trust/"}).Load(t.Context(), store, noon); err == nil {
		t.Error("damage is not told")
	}
}

// TestTimeAndGoodMailNeverLowerATier, and no history earns what only a person gives.
func TestTimeAndGoodMailNeverLowerATier(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := History{First: noon, Days: rapid.IntRange(0, 60).Draw(rt, "days"), Delivered: rapid.IntRange(0, 5000).Draw(rt, "delivered")}
		confirmed := rapid.Bool().Draw(rt, "confirmed")
		now := noon.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "age")) * Day)
		before := h.Stand("", confirmed, now)
		h.Delivered += rapid.IntRange(0, 5000).Draw(rt, "more")
		h.Days += rapid.IntRange(0, 10).Draw(rt, "more days")
		after := h.Stand("", confirmed, now.Add(Day))
		if before.Tier.Above(after.Tier) || after.Tier == Trusted {
			rt.Fatalf("%s, then %s", before.Tier, after.Tier)
		}
		if (after.Next == "") != (after.Tier == Established) || after.Next != "" && len(after.Missing) == 0 {
			rt.Fatalf("it does not say why not yet: %+v", after)
		}
	})
}
