package config

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"anechoic/org"
)

// Bounds of a feed. The widest prefixes are those that ranges in relay.toml may
// have too.
const (
	maxFeedBytes     = 1 << 20
	maxFeedPrefixes  = 10_000
	widestFeedV4     = 8
	widestFeedV6     = 32
	feedShrinksTo    = 0.5 // of the addresses of the last good list, at least
	feedGrowsTo      = 2.0 // at most
	feedNetworkBits6 = 48  // what IPv6 is counted in
)

// ReadFeed reads a provider's current ranges: one prefix a line, "#" begins a
// comment. A file that is empty, too large, or has a line that cannot be right is
// an error as a whole: half a list is no list.
func ReadFeed(path string) ([]netip.Prefix, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if info.Size() > maxFeedBytes {
		return nil, fmt.Errorf("feed: %s is larger than 1 MiB", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	return ParseFeed(path, text)
}

// ParseFeed is ReadFeed for a text.
func ParseFeed(path string, text []byte) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		p, err := netip.ParsePrefix(line)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("feed: %s:%d: %.60q is no prefix such as 192.0.2.0/24", path, n, line)
		}
		if p.Addr().Is4() && p.Bits() < widestFeedV4 || p.Addr().Is6() && p.Bits() < widestFeedV6 {
			return nil, fmt.Errorf("feed: %s:%d: %s is wider than any provider: at most /%d or /%d", path, n, p, widestFeedV4, widestFeedV6)
		}
		if ranges = append(ranges, p); len(ranges) > maxFeedPrefixes {
			return nil, fmt.Errorf("feed: %s has more than %d prefixes", path, maxFeedPrefixes)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("feed: %s: %w", path, err)
	}
	if len(ranges) == 0 {
		return nil, fmt.Errorf("feed: %s names no prefix", path)
	}
	slices.SortFunc(ranges, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(ranges), nil
}

// JudgeFeed refuses a list that differs from the last good one as no provider's
// list does from one day to the next: it lost half of its addresses, or doubled
// them. Such a list is somebody's mistake, or somebody's attack.
func JudgeFeed(last, next []netip.Prefix) error {
	for _, family := range []struct {
		name string
		size func([]netip.Prefix) float64
	}{{"IPv4 addresses", sizeV4}, {"IPv6 networks", sizeV6}} {
		before, after := family.size(last), family.size(next)
		switch {
		case before == 0:
		case after < before*feedShrinksTo:
			return fmt.Errorf("feed: it has %.0f %s, the last good one had %.0f: it shrank too much to be believed", after, family.name, before)
		case after > before*feedGrowsTo:
			return fmt.Errorf("feed: it has %.0f %s, the last good one had %.0f: it grew too much to be believed", after, family.name, before)
		}
	}
	return nil
}

func sizeV4(ranges []netip.Prefix) (n float64) {
	for i, p := range ranges {
		if p.Addr().Is4() && !slices.ContainsFunc(ranges[:i], p.Overlaps) {
			n += float64(uint64(1) << (32 - p.Bits()))
		}
	}
	return n
}

func sizeV6(ranges []netip.Prefix) (n float64) {
	for i, p := range ranges {
		if p.Addr().Is6() && !slices.ContainsFunc(ranges[:i], p.Overlaps) {
			n += float64(uint64(1) << max(feedNetworkBits6-p.Bits(), 0))
		}
	}
	return n
}

// Feeds gives the ranges to use for a provider whose configuration names a feed,
// and what is wrong with the feed, if something is.
type Feeds func(provider string, p Provider) (ranges []netip.Prefix, fault error)

// applyFeeds puts the ranges of feeds in the place of those in the file. A feed
// that cannot be used is a finding, not a problem: what was good before stays.
func (c *Config) applyFeeds(feeds Feeds) (findings []org.Finding) {
	for _, p := range []struct {
		name     string
		provider *Provider
	}{{"microsoft365", &c.Providers.Microsoft365}, {"google", &c.Providers.Google}} {
		if p.provider.Feed == "" {
			continue
		}
		ranges, fault := feeds(p.name, *p.provider)
		p.provider.Ranges = ranges
		if fault != nil {
			findings = append(findings, org.Finding{Text: fmt.Sprintf("the feed of provider %s is not used, the last good list stays: %v", p.name, fault)})
		}
	}
	return findings
}

// feedOrFile is Feeds for a file that no relay runs with: the feed if it can be
// read, else the ranges of the configuration.
func feedOrFile(_ string, p Provider) ([]netip.Prefix, error) {
	ranges, err := ReadFeed(p.Feed)
	if err == nil {
		return ranges, nil
	}
	return p.Ranges, err
}
