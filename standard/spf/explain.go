package spf

import (
	"context"
	"strings"
)

// explanation fetches what a domain wants to say about a fail (RFC 7208 section
// 6.2). Whatever is wrong on the way, there is just no explanation. These look-ups
// do not count against the limits.
func (e *evaluation) explanation(ctx context.Context, o outcome) string {
	if o.exp == "" {
		return ""
	}
	target, err := e.expand(ctx, o.exp, o.domain, nameMacros)
	if err != nil {
		return ""
	}
	name, ok := queryName(target)
	if !ok {
		return ""
	}
	answer, err := e.resolver.TXT(ctx, name)
	if err != nil || len(answer.Records) != 1 || len(answer.Records[0]) > MaxRecord || !isPrintable(answer.Records[0]) {
		return ""
	}
	text, err := e.expand(ctx, answer.Records[0], o.domain, anyMacros)
	if err != nil {
		return ""
	}
	return harmless(text)
}

// harmless bounds a text and takes out what has no place in a reply: HELO and MAIL
// FROM may have brought anything.
func harmless(s string) string {
	s = s[:min(len(s), MaxExplanation)]
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s))
}

func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
