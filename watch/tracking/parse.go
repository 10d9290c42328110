package tracking

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"anechoic/mail"
)

// Bounds of a query: a person writes far less.
const (
	maxQuery      = 4096
	maxConditions = 32
	maxValues     = 64
)

// maxAge is the longest `24h` or `7d`: before any ledger.
const maxAge = 36525 * 24 * time.Hour

// ParseError is a query that is not understood.
type ParseError struct {
	Column int    // in characters, from 1
	Text   string // what is wrong there
	Hint   string // what to write
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("query, column %d: %s (%s)", e.Column, e.Text, e.Hint)
}

// token is one word of a query.
type token struct {
	column int
	key    string // "": a free word
	value  string
	list   []string // more than one value
	quoted bool     // the value, or a part of it, stood in quotes
}

// Parse reads a query of one line:
//
//	from:ann@acme.example reason:FROM_NOT_OWNED,MAIL_FROM_NOT_OWNED since:24h "user unknown" 192.0.2.0/24
//
// Words with a field (Fields) ask for that field; values with a comma between them are
// alternatives; a word alone is taken for what it looks like: an id, an address, a
// network, a tenant, a reason, a domain, else a word of a reply or detail. Words in
// quotes are words of a reply. All must hold. Errors are *ParseError.
func Parse(line string, now time.Time) (q Query, err error) {
	if len(line) > maxQuery || !utf8.ValidString(line) {
		return q, &ParseError{1, "longer than 4096 octets, or not UTF-8", "ask for less at a time"}
	}
	tokens, err := tokens(line)
	if err != nil {
		return q, err
	}
	for _, t := range tokens {
		if err := q.add(t, now); err != nil {
			return Query{}, err
		}
	}
	return q, nil
}

// tokens takes a line apart.
func tokens(line string) (list []token, err error) {
	r := reader{text: []rune(line)}
	for r.skip(); r.at < len(r.text); r.skip() {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// reader goes through a line.
type reader struct {
	text []rune
	at   int
}

func (r *reader) skip() {
	for r.at < len(r.text) && isBlank(r.text[r.at]) {
		r.at++
	}
}

func isBlank(c rune) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// token reads one word: [field:]value[,value].
func (r *reader) token() (t token, err error) {
	t.column = r.at + 1
	if key, rest := r.key(); key != "" {
		t.key, r.at = key, rest
	}
	for {
		value, isQuoted, err := r.value(t.key != "")
		if err != nil {
			return t, err
		}
		t.quoted = t.quoted || isQuoted
		if value == "" {
			return t, &ParseError{r.at + 1, "a value is missing", "write field:value, as in from:ann@acme.example"}
		}
		t.list = append(t.list, value)
		if t.key == "" || r.at >= len(r.text) || r.text[r.at] != ',' {
			break
		}
		r.at++
	}
	t.value = t.list[0]
	if r.at < len(r.text) && !isBlank(r.text[r.at]) {
		return t, &ParseError{r.at + 1, "something follows a quote", "leave a space after it"}
	}
	return t, nil
}

// key reads a known field's name with its colon. Other words with a colon are values:
// times, IPv6 addresses; what looks like a field is an error later on.
func (r *reader) key() (key string, rest int) {
	for i := r.at; i < len(r.text); i++ {
		c := r.text[i]
		if c == ':' && i > r.at {
			return strings.ToLower(string(r.text[r.at:i])), i + 1
		}
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", 0
		}
	}
	return "", 0
}

// value reads up to a blank, or a comma in a list; in quotes anything.
func (r *reader) value(list bool) (value string, isQuoted bool, err error) {
	var b strings.Builder
	if r.at < len(r.text) && r.text[r.at] == '"' {
		start := r.at + 1
		for r.at++; r.at < len(r.text) && r.text[r.at] != '"'; r.at++ {
			if r.text[r.at] == '\\' && r.at+1 < len(r.text) {
				r.at++
			}
			b.WriteRune(r.text[r.at])
		}
		if r.at >= len(r.text) {
			return "", true, &ParseError{start, "a quote is not closed", `write "user unknown"`}
		}
		r.at++
		return b.String(), true, nil
	}
	for ; r.at < len(r.text) && !isBlank(r.text[r.at]) && (!list || r.text[r.at] != ','); r.at++ {
		b.WriteRune(r.text[r.at])
	}
	return b.String(), false, nil
}

// add puts a token into the query.
func (q *Query) add(t token, now time.Time) error {
	if t.key == "rcpt" {
		t.key = "to"
	}
	if t.list == nil {
		t.list = []string{t.value}
	}
	switch {
	case t.key == "since" || t.key == "until":
		return q.bound(t, now)
	case t.key == "" && t.quoted:
		return q.phrase(t)
	case t.key == "":
		t.key = guess(t.value)
	}
	f := fieldNamed(t.key)
	if f == nil && isIPv6Like(t) {
		f, t.list = fieldNamed("peer"), []string{t.key + ":" + t.value}
	}
	if f == nil {
		return &ParseError{t.column, fmt.Sprintf("there is no field %q", cut(t.key, 40)), "one of " + names()}
	}
	return q.put(f, t)
}

// isIPv6Like says that the key is the beginning of an address: fe80::1.
func isIPv6Like(t token) bool {
	_, addr := netip.ParseAddr(t.key + ":" + t.value)
	_, prefix := netip.ParsePrefix(t.key + ":" + t.value)
	return len(t.list) == 1 && (addr == nil || prefix == nil)
}

func (q *Query) put(f *field, t token) error {
	c := condition{field: f, values: t.list}
	for _, v := range t.list {
		spans, err := f.spans(v)
		if err != nil {
			return &ParseError{t.column, err.Error(), f.name + " is " + f.means}
		}
		c.spans = append(c.spans, spans...)
	}
	if len(t.list) > maxValues || len(q.conditions) == maxConditions {
		return &ParseError{t.column, "too many values or conditions", fmt.Sprintf("at most %d values in a list and %d words", maxValues, maxConditions)}
	}
	q.conditions = append(q.conditions, c)
	return nil
}

// phrase asks for each word in quotes.
func (q *Query) phrase(t token) error {
	words := wordsOf(t.value, maxConditions)
	if len(words) == 0 {
		return &ParseError{t.column, "no word stands in the quotes", `write "user unknown"`}
	}
	for _, w := range words {
		if err := q.put(fieldNamed("word"), token{column: t.column, list: []string{w}}); err != nil {
			return err
		}
	}
	return nil
}

func (q *Query) bound(t token, now time.Time) error {
	at, err := Moment(t.value, now)
	to := &q.Since
	if t.key == "until" {
		to = &q.Until
	}
	switch {
	case err != nil:
		return &ParseError{t.column, fmt.Sprintf("%s:%s is no time", t.key, cut(t.value, 40)), err.Error()}
	case len(t.list) > 1 || !to.IsZero():
		return &ParseError{t.column, t.key + " is given twice", "give one time"}
	}
	*to = at
	return nil
}

// Moment reads a time as people write it: 24h or 7d ago, a day, a day and time, or
// RFC 3339. Without a zone it is UTC.
func Moment(text string, now time.Time) (time.Time, error) {
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, bad := strconv.ParseUint(days, 10, 16)
		ago, err = time.Duration(n)*24*time.Hour, bad
	}
	if err == nil && ago >= 0 && ago <= maxAge {
		return now.Add(-ago).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("write 24h, 7d, 2026-11-22 or 2026-11-22T09:00:00Z")
}

// guess says what a word alone looks like.
func guess(v string) string {
	bare := strings.TrimSuffix(v, "*")
	switch {
	case mail.ID(strings.ToLower(v)).Valid():
		return "id"
	case strings.HasPrefix(v, "<") && strings.Contains(v, "@"):
		return "message_id"
	case strings.Contains(v, "@"):
		return "address"
	case isPeer(v):
		return "peer"
	case isGUID(v):
		return "tenant"
	case isReason(v):
		return "reason"
	case strings.HasPrefix(v, "*."), isDomain(bare) && bare == v:
		return "domain"
	}
	return "word"
}

func isPeer(v string) bool {
	_, addr := netip.ParseAddr(v)
	_, prefix := netip.ParsePrefix(v)
	return addr == nil || prefix == nil
}

// isGUID says that v has the form 8-4-4-4-12.
func isGUID(v string) bool {
	parts := strings.Split(v, "-")
	if len(v) != 36 || len(parts) != 5 {
		return false
	}
	return len(parts[0]) == 8 && len(parts[1]) == 4 && len(parts[2]) == 4 && len(parts[3]) == 4 && strings.Trim(strings.ToLower(v), "0123456789abcdef-") == ""
}

func isReason(v string) bool {
	for _, r := range mail.Reasons() {
		if string(r) == v {
			return true
		}
	}
	return false
}

// isDomain says that v is a name of two labels or more whose last is no number: 5.1.1
// is a word of a reply.
func isDomain(v string) bool {
	d, err := mail.ParseDomain(v)
	last := v[strings.LastIndexByte(v, '.')+1:]
	return err == nil && !d.IsZero() && strings.Contains(strings.Trim(v, "."), ".") && strings.Trim(last, "0123456789") != ""
}

func names() string {
	var list []string
	for _, f := range Fields() {
		list = append(list, f[0])
	}
	return strings.Join(list, ", ")
}
