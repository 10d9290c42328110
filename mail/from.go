package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxCommentDepth bounds how deep comments may stand in comments. RFC 5322
// section 3.2.2 knows no bound; real mail does not nest them at all.
const maxCommentDepth = 8

// ErrNotOneMailbox says that a list or a group stands where one mailbox must.
// It comes together with ErrAddressSyntax.
var ErrNotOneMailbox = errors.New("not exactly one mailbox")

// Mailbox is an address as a header field has it, with the name beside it.
type Mailbox struct {
	Name    string // the display name without its quotes; encoded-words stay as written. For display only
	Address Address
}

// ParseMailbox reads the value of a field that holds one mailbox: name-addr or
// addr-spec of RFC 5322 section 3.4, folded or not. It reads what every program
// reads the same way, and nothing else, because identity rests on it:
//
//   - no list and no group (errors wrap ErrNotOneMailbox), no source route, no
//     second address before or after the angle brackets;
//   - the address itself is what ParseAddress takes: no space, folding or
//     comment in it, no encoded-word as its local part, and a quoted local part
//     only without what other programs take for the end of the address;
//   - the display name may have dots (obs-phrase), but @ and the other specials
//     only in quotes;
//   - comments stand outside the address, and hold none of @ < > , ; : " \;
//   - no octet outside printable ASCII, tab and folding.
//
// Errors wrap ErrAddressSyntax or ErrNotASCII.
func ParseMailbox(value []byte) (Mailbox, error) { return parseMailbox(value, false) }

// ParseMailboxUTF8 is ParseMailbox for a message that came with SMTPUTF8 (RFC
// 6532 section 3.2): UTF-8 may stand in the name and in the address.
func ParseMailboxUTF8(value []byte) (Mailbox, error) { return parseMailbox(value, true) }

func parseMailbox(value []byte, utf8OK bool) (Mailbox, error) {
	p := mailboxParser{s: value, utf8OK: utf8OK}
	if err := p.checkOctets(); err != nil {
		return Mailbox{}, err
	}
	m, err := p.mailbox()
	if err != nil {
		return Mailbox{}, err
	}
	if !p.end() {
		return Mailbox{}, p.unexpected("after the address")
	}
	return m, nil
}

// parseMailboxList reads mailbox-list of RFC 5322 section 3.4, without the
// empty elements of its obsolete form.
func parseMailboxList(value []byte, utf8OK bool) ([]Mailbox, error) {
	p := mailboxParser{s: value, utf8OK: utf8OK}
	if err := p.checkOctets(); err != nil {
		return nil, err
	}
	var list []Mailbox
	for {
		m, err := p.mailbox()
		if err != nil {
			return nil, err
		}
		list = append(list, m)
		if p.end() {
			return list, nil
		}
		if p.s[p.i] != ',' {
			return nil, p.unexpected("after the address")
		}
		p.i++
	}
}

// mailboxParser walks over s once; i is the next octet.
type mailboxParser struct {
	s      []byte
	i      int
	utf8OK bool
}

func (p *mailboxParser) end() bool { return p.i >= len(p.s) }

// checkOctets refuses what may stand nowhere in an address field. After it, CR
// and LF are known to be folding, that is white space.
func (p *mailboxParser) checkOctets() error {
	eightBit := false
	for i := 0; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '\r':
			if i+2 >= len(p.s) || p.s[i+1] != '\n' || p.s[i+2] != ' ' && p.s[i+2] != '\t' {
				return fmt.Errorf("%w: a line end that is no folding", ErrAddressSyntax)
			}
			i++
		case c < ' ' && c != '\t', c == 0x7f:
			return fmt.Errorf("%w: control character %#02x", ErrAddressSyntax, c)
		case c >= utf8.RuneSelf:
			eightBit = true
		}
	}
	switch {
	case eightBit && !p.utf8OK:
		return fmt.Errorf("%w: %.60q", ErrNotASCII, p.s)
	case eightBit && !isText(string(p.s)):
		return fmt.Errorf("%w: %.60q is not UTF-8 text", ErrAddressSyntax, p.s)
	}
	return nil
}

// mailbox takes one mailbox and the white space and comments around it.
func (p *mailboxParser) mailbox() (Mailbox, error) {
	if err := p.skipCFWS(); err != nil {
		return Mailbox{}, err
	}
	start := p.i
	var name []byte
	for !p.end() && p.s[p.i] != '<' {
		before := p.i
		word, err := p.word()
		if err != nil {
			return Mailbox{}, err
		}
		if before == start && !p.end() && p.s[p.i] == '@' {
			return p.bareAddress(start)
		}
		if p.i == before {
			return Mailbox{}, p.unexpected("in the display name")
		}
		name = append(name, word...)
		after := p.i
		if err := p.skipCFWS(); err != nil {
			return Mailbox{}, err
		}
		if p.i > after && !p.end() && p.s[p.i] != '<' {
			name = append(name, ' ')
		}
	}
	if p.end() {
		return Mailbox{}, fmt.Errorf("%w: there is no address in %.60q", ErrAddressSyntax, p.s)
	}
	address, err := p.angleAddress()
	if err != nil {
		return Mailbox{}, err
	}
	return Mailbox{Name: string(name), Address: address}, p.skipCFWS()
}

// word takes an atom, dots included, or a quoted-string, which it gives without
// its quotes. It takes nothing where neither stands.
func (p *mailboxParser) word() ([]byte, error) {
	if !p.end() && p.s[p.i] == '"' {
		return p.quoted()
	}
	start := p.i
	for !p.end() && (isAtext(p.s[p.i]) || p.s[p.i] == '.' || p.s[p.i] >= utf8.RuneSelf) {
		p.i++
	}
	return p.s[start:p.i], nil
}

// quoted takes a quoted-string. A program that does not know escapes would see
// it end at an escaped quote, and an address in what follows: that is refused.
func (p *mailboxParser) quoted() ([]byte, error) {
	text, escaped := make([]byte, 0, 32), false
	for p.i++; !p.end(); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return text, nil
		case '\r', '\n': // folding; the space after it stays
		case '\\':
			if p.i++; p.end() || p.s[p.i] < ' ' || p.s[p.i] >= utf8.RuneSelf {
				return nil, fmt.Errorf("%w: a quoted name escapes what may not be escaped", ErrAddressSyntax)
			}
			escaped = true
			text = append(text, p.s[p.i])
		case '@':
			if escaped {
				return nil, fmt.Errorf("%w: a quoted name has an @ after an escape", ErrAddressSyntax)
			}
			text = append(text, c)
		default:
			text = append(text, c)
		}
	}
	return nil, fmt.Errorf("%w: a quote that does not end in %.60q", ErrAddressSyntax, p.s)
}

// bareAddress takes the addr-spec that begins at start: p stands on its @.
func (p *mailboxParser) bareAddress(start int) (Mailbox, error) {
	p.i++
	for !p.end() && (isAtext(p.s[p.i]) || p.s[p.i] == '.' || p.s[p.i] >= utf8.RuneSelf) {
		p.i++
	}
	address, err := p.address(p.s[start:p.i])
	if err != nil {
		return Mailbox{}, err
	}
	return Mailbox{Address: address}, p.skipCFWS()
}

// angleAddress takes "<", an addr-spec and ">".
func (p *mailboxParser) angleAddress() (Address, error) {
	p.i++
	start := p.i
	if !p.end() && p.s[p.i] == '"' {
		if _, err := p.quoted(); err != nil {
			return Address{}, err
		}
	}
	n := bytes.IndexByte(p.s[p.i:], '>')
	if n < 0 {
		return Address{}, fmt.Errorf("%w: < without > in %.60q", ErrAddressSyntax, p.s)
	}
	spec := p.s[start : p.i+n]
	p.i += n + 1
	return p.address(spec)
}

// address reads an addr-spec, and refuses the few that ParseAddress takes but
// that programs read in different ways.
func (p *mailboxParser) address(spec []byte) (Address, error) {
	a, err := parseAddress(string(spec), p.utf8OK)
	if err != nil {
		return Address{}, err
	}
	if _, rest, ok := strings.Cut(a.local, "=?"); ok && strings.Contains(rest, "?=") {
		return Address{}, fmt.Errorf("%w: %q has an encoded-word for a local part", ErrAddressSyntax, spec) // RFC 2047 section 5
	}
	if strings.ContainsAny(a.local, `@<>(),;:"\`) {
		return Address{}, fmt.Errorf("%w: %q has a local part that programs read in different ways", ErrAddressSyntax, spec)
	}
	return a, nil
}

// skipCFWS takes white space, folding and comments (RFC 5322 section 3.2.2).
func (p *mailboxParser) skipCFWS() error {
	for depth := 0; !p.end(); p.i++ {
		switch c := p.s[p.i]; {
		case c == '(':
			if depth++; depth > maxCommentDepth {
				return fmt.Errorf("%w: comments are nested more than %d deep", ErrAddressSyntax, maxCommentDepth)
			}
		case depth > 0 && c == ')':
			depth--
		case depth > 0 && strings.IndexByte(`@<>,;:"\`, c) >= 0:
			return fmt.Errorf("%w: %q in a comment", ErrAddressSyntax, c)
		case depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return nil
		}
		if p.i == len(p.s)-1 && depth > 0 {
			return fmt.Errorf("%w: a comment that does not end", ErrAddressSyntax)
		}
	}
	return nil
}

// unexpected names the octet that stopped the parser. A comma or a colon means
// that a list or a group stands here.
func (p *mailboxParser) unexpected(where string) error {
	c := p.s[p.i]
	if c == ',' || c == ':' {
		return fmt.Errorf("%w: %w: %q %s", ErrAddressSyntax, ErrNotOneMailbox, c, where)
	}
	return fmt.Errorf("%w: %q %s", ErrAddressSyntax, c, where)
}

// Originators is everybody in whose name a message speaks.
type Originators struct {
	From         Mailbox
	Sender       []Address // none or one
	ResentFrom   []Address // of every Resent block, from the top
	ResentSender []Address
}

// singular lists the fields that may stand once at most (RFC 5322 section 3.6,
// RFC 2045 section 3), From apart. Date may be missing: section 3.6 wants it, but
// applications that leave it out are many, and nothing about identity depends on
// it.
var singular = [...]string{
	"Sender", "Date", "To", "Cc", "Bcc", "Subject", "Message-ID", "Reply-To", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// otherAddresses lists the fields that hold addresses but name no originator (RFC
// 5322 sections 3.6.2, 3.6.3 and 3.6.6). They are not read, but what stands in
// them must be text that everybody reads the same way.
var otherAddresses = [...]string{"To", "Cc", "Bcc", "Reply-To", "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-Reply-To"}

// ReadOriginators says who a message is from: exactly one From field with
// exactly one mailbox, at most one Sender, and the Resent fields of each time it
// was sent again. A message that repeats a field which may stand once is
// refused, because the next program may show the other one; and one with octets
// outside ASCII in an address field, because that needs SMTPUTF8.
func ReadOriginators(h Header) (Originators, *Refusal) { return originatorsOf(h, false) }

// ReadOriginators is the function of that name for the header that came in this
// envelope: with SMTPUTF8 address fields may be UTF-8 (RFC 6532 section 3.2).
func (e Envelope) ReadOriginators(h Header) (Originators, *Refusal) { return originatorsOf(h, e.UTF8) }

func originatorsOf(h Header, utf8OK bool) (o Originators, _ *Refusal) {
	from, refusal := singleFields(h)
	if refusal != nil {
		return Originators{}, refusal
	}
	var err error
	if o.From, err = parseMailbox(from.RawValue(), utf8OK); err != nil {
		return Originators{}, misread("From", err, FromSyntax)
	}
	for _, f := range h.Fields {
		if err := o.add(f, utf8OK); err != nil {
			return Originators{}, misread(f.Name(), err, OriginatorSyntax)
		}
		if err := checkOtherAddresses(f, utf8OK); err != nil {
			return Originators{}, misread(f.Name(), err, HeaderSyntax)
		}
	}
	return o, nil
}

// misread words why an address field was not read.
func misread(name string, err error, otherwise *Refusal) *Refusal {
	switch {
	case errors.Is(err, ErrNotOneMailbox) && otherwise == FromSyntax:
		return FromNotSingle.Because("%s: %v", name, err)
	case errors.Is(err, ErrNotASCII):
		return HeaderNeedsUTF8.Because("%s: %v", name, err)
	}
	return otherwise.Because("%s: %v", name, err)
}

// checkOtherAddresses checks the octets of an address field that is not read.
func checkOtherAddresses(f Field, utf8OK bool) error {
	for _, name := range otherAddresses {
		if !f.Is(name) {
			continue
		}
		switch v := string(f.RawValue()); {
		case isASCII(v):
		case !utf8OK:
			return fmt.Errorf("%w: %.60q", ErrNotASCII, v)
		case !isText(v):
			return fmt.Errorf("%w: %.60q is not UTF-8 text", ErrAddressSyntax, v)
		}
		return nil
	}
	return nil
}

// singleFields counts the fields that may stand once and gives From.
func singleFields(h Header) (from Field, _ *Refusal) {
	froms, seen := 0, [len(singular)]bool{}
	for _, f := range h.Fields {
		if f.Is("From") {
			from = f
			froms++
		}
		for i, name := range singular {
			if !f.Is(name) {
				continue
			}
			if seen[i] {
				return Field{}, DuplicateField.Because("more than one %s", name)
			}
			seen[i] = true
		}
	}
	if froms != 1 {
		return Field{}, FromNotSingle.Because("%d From fields", froms)
	}
	return from, nil
}

// add takes in f if it names an originator beside From.
func (o *Originators) add(f Field, utf8OK bool) error {
	switch {
	case f.Is("Sender"):
		m, err := parseMailbox(f.RawValue(), utf8OK)
		o.Sender = append(o.Sender, m.Address)
		return err
	case f.Is("Resent-Sender"):
		m, err := parseMailbox(f.RawValue(), utf8OK)
		o.ResentSender = append(o.ResentSender, m.Address)
		return err
	case f.Is("Resent-From"):
		list, err := parseMailboxList(f.RawValue(), utf8OK)
		for _, m := range list {
			o.ResentFrom = append(o.ResentFrom, m.Address)
		}
		return err
	}
	return nil
}
