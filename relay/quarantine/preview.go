package quarantine

import (
	"strings"
	"unicode/utf8"

	"anechoic/mail"
)

// Bounds of a preview: what a person looks through, not what a mailbox stores.
const (
	maxText        = 32 << 10 // octets of text, of the whole message
	maxTextLines   = 500
	maxTexts       = 20
	maxAttachments = 100
	maxFieldsShown = 20
)

// Part is a text part of a message, decoded.
type Part struct {
	Place string // "part 1.2"
	HTML  bool
	Text  string
}

// Attachment is what is told of a file: never what is in it.
type Attachment struct {
	Place string `json:"place"`
	Name  string `json:"name,omitempty"`
	Type  string `json:"type,omitempty"`  // as declared
	Found string `json:"found,omitempty"` // by its first octets
	Size  int64  `json:"size"`
}

// Preview is a message as safe text.
type Preview struct {
	Subject     string       `json:"subject"`
	Fields      []string     `json:"fields"` // those that readers are shown, "Name: value"
	Texts       []Text       `json:"texts"`
	Attachments []Attachment `json:"attachments"`
	Cut         bool         `json:"cut,omitempty"` // there is more than is shown
}

// Text is one shown text.
type Text struct {
	Place   string `json:"place"`
	Reduced bool   `json:"reduced,omitempty"` // from HTML
	Text    string `json:"text"`
}

// shownFields are the fields that mail programs show.
var shownFields = []string{"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "List-Id"}

// Show makes a preview. cut says that the parts are not all there was.
func Show(h mail.Header, parts []Part, files []Attachment, cut bool) Preview {
	p := Preview{Fields: []string{}, Texts: []Text{}, Attachments: []Attachment{}, Cut: cut}
	if f, ok := h.First("Subject"); ok {
		p.Subject = Visible(Words(f.Value()))
	}
	p.fields(h)
	p.texts(parts)
	for _, a := range files {
		if len(p.Attachments) == maxAttachments {
			p.Cut = true
			break
		}
		a.Place, a.Name, a.Type, a.Found = Visible(a.Place), Visible(a.Name), Visible(a.Type), Visible(a.Found)
		p.Attachments = append(p.Attachments, a)
	}
	return p
}

// fields shows those that readers see, each as often as it is there.
func (p *Preview) fields(h mail.Header) {
	for _, name := range shownFields {
		for _, f := range h.All(name) {
			if len(p.Fields) == maxFieldsShown {
				p.Cut = true
				return
			}
			p.Fields = append(p.Fields, name+": "+Visible(Words(f.Value())))
		}
	}
}

// texts shows text parts until a bound is met.
func (p *Preview) texts(parts []Part) {
	octets, lines := maxText, maxTextLines
	for _, part := range parts {
		text := part.Text
		if part.HTML {
			text = HTMLText(text)
		}
		if len(p.Texts) == maxTexts || octets <= 0 || lines <= 0 {
			p.Cut = true
			return
		}
		text, cut := bounded(VisibleText(strings.TrimRight(text, " \t\r\n")), octets, lines)
		p.Cut = p.Cut || cut
		octets, lines = octets-len(text), lines-strings.Count(text, "\n")-1
		p.Texts = append(p.Texts, Text{Place: Visible(part.Place), Reduced: part.HTML, Text: text})
	}
}

// bounded cuts a text between characters.
func bounded(s string, octets, lines int) (text string, cut bool) {
	n := 0
	for i := range s {
		if s[i] == '\n' {
			if n++; n == lines {
				return s[:i], true
			}
		}
		if i >= octets {
			for i > 0 && !utf8.RuneStart(s[i]) {
				i--
			}
			return s[:i], true
		}
	}
	return s, false
}
