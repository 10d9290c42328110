package config

import (
	"net/netip"
	"strings"
	"testing"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func TestAFeedIsReadWholeOrNotAtAll(t *testing.T) {
	got, err := ParseFeed("feed", []byte("# Exchange Online\n40.107.0.0/16\n 40.92.0.0/15 # two\n\n2a01:111:f400::/48\r\n40.107.0.0/16\n"))
	if err != nil || len(got) != 3 || got[0] != netip.MustParsePrefix("40.92.0.0/15") {
		t.Fatalf("read %v, %v", got, err)
	}
	for what, text := range map[string]string{
		"nothing":               "",
		"comments only":         "# none\n",
		"everything":            "0.0.0.0/0\n",
		"everything in IPv6":    "::/0\n",
		"half the internet":     "40.92.0.0/15\n128.0.0.0/1\n",
		"an address":            "40.92.0.1\n",
		"bits below the prefix": "40.92.0.1/15\n",
		"a mapped prefix":       "::ffff:40.92.0.0/112\n",
		"words":                 "<html>not found</html>\n",
		"half a line":           "40.92.0.0/15\n40.107.0.0\n",
		"a flood":               strings.Repeat("10.0.0.0/24\n", maxFeedPrefixes+1),
	} {
		if got, err := ParseFeed("feed", []byte(text)); err == nil {
			t.Errorf("%s was read as %v", what, got)
		}
	}
}

func TestAFeedThatCannotBeBelievedIsNotUsed(t *testing.T) {
	last := prefixes("40.92.0.0/15", "40.107.0.0/16", "2a01:111:f400::/48", "2a01:111:f403::/48")
	for what, c := range map[string]struct {
		next []netip.Prefix
		good bool
	}{
		"the same":              {last, true},
		"one more":              {append(prefixes("52.103.0.0/17"), last...), true},
		"one less":              {prefixes("40.92.0.0/15", "2a01:111:f400::/48"), true},
		"most are gone":         {prefixes("40.92.0.0/24", "2a01:111:f400::/48"), false},
		"IPv4 is gone":          {prefixes("2a01:111:f400::/48"), false},
		"IPv6 is gone":          {prefixes("40.92.0.0/15", "40.107.0.0/16"), false},
		"it grew wildly":        {prefixes("40.0.0.0/8", "2a01:111:f400::/48"), false},
		"IPv6 grew wildly":      {prefixes("40.92.0.0/15", "40.107.0.0/16", "2a01:111::/32"), false},
		"the same, cut in two":  {prefixes("40.92.0.0/16", "40.93.0.0/16", "40.107.0.0/16", "2a01:111:f400::/48"), true},
		"overlaps do not count": {append(prefixes("40.92.0.0/16", "40.93.0.0/16", "40.107.1.0/24"), last...), true},
	} {
		t.Run(what, func(t *testing.T) {
			next := c.next
			if err := JudgeFeed(last, sorted(next)); (err == nil) != c.good {
				t.Errorf("%v: %v", next, err)
			}
		})
	}
	if err := JudgeFeed(nil, prefixes("40.92.0.0/15")); err != nil {
		t.Errorf("the first list: %v", err)
	}
}

// sorted is what ParseFeed makes of a list.
func sorted(list []netip.Prefix) []netip.Prefix {
	var text strings.Builder
	for _, p := range list {
		text.WriteString(p.String() + "\n")
	}
	read, err := ParseFeed("feed", []byte(text.String()))
	if err != nil {
		panic(err)
	}
	return read
}

func FuzzParseFeed(f *testing.F) {
	f.Add([]byte("40.92.0.0/15\n# x\n2a01:111:f400::/48\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ranges, err := ParseFeed("feed", text)
		if (err == nil) == (len(ranges) == 0) {
			t.Fatalf("%v, %v", ranges, err)
		}
		for _, p := range ranges {
			if p.Addr().Is4() && p.Bits() < widestFeedV4 || p.Addr().Is6() && p.Bits() < widestFeedV6 {
				t.Fatalf("%s was read", p)
			}
		}
	})
}
