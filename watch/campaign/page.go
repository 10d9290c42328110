package campaign

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// shown is how many names of a list the page has.
const shown = 15

// Text is the campaign's page in plain words, without markup and in printable ASCII.
func (c Campaign) Text() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-15s%s\n", name, text)
		}
	}
	fmt.Fprintf(&b, "%s\n\n", c.title())
	line("campaign", c.ID)
	line("began", at(c.Start))
	line("peak", fmt.Sprintf("%s, %d messages in ten minutes", at(c.Peak), c.PeakMessages))
	if c.Open {
		line("goes on", "last seen "+at(c.Last))
	} else {
		line("ended", at(c.End))
	}
	line("messages", strconv.Itoa(c.Messages))
	line("refused", strconv.Itoa(c.Refused))
	line("got through", strconv.Itoa(c.Left))
	line("proposed", c.Step.String())
	line("organisations", counted(c.Organisations))
	line("domains", counted(c.Domains))
	line("sources", names(c.Sources))
	line("reasons", counted(c.Reasons))
	line("tenants", names(c.Tenants))
	line("addresses", names(c.Addresses))
	line("hosts in links", names(c.Hosts))
	line("names begin", names(c.Families))
	line("messages, e.g.", names(c.IDs))
	for _, s := range c.Sentences {
		line("finding", s)
	}
	for _, m := range c.Merged {
		line("joined", fmt.Sprintf("%s at %s: both had %s", m.ID, at(m.Time), m.By))
	}
	if len(c.More) > 0 {
		line("not all of", names(c.More))
	}
	return b.String()
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func counted(list []Count) string {
	var words []string
	for _, n := range list[:min(len(list), shown)] {
		words = append(words, fmt.Sprintf("%s (%d)", word(n.Name), n.Messages))
	}
	return strings.Join(words, ", ") + andMore(len(list))
}

func names(list []string) string {
	var words []string
	for _, n := range list[:min(len(list), shown)] {
		words = append(words, word(n))
	}
	return strings.Join(words, ", ") + andMore(len(list))
}

func andMore(n int) string {
	if n <= shown {
		return ""
	}
	return fmt.Sprintf(" and %d more", n-shown)
}
