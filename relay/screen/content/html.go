package content

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
)

// maxVisible is how much of what a reader sees in the place of a link is kept.
const maxVisible = 256

// leading are the attributes that lead elsewhere or load something; telling are
// others that are looked at.
var (
	leading = []string{"href", "xlink:href", "src", "action", "formaction", "data", "background", "poster", "code", "codebase"}
	telling = []string{"style", "http-equiv", "content", "type"}
)

func leads(key string) bool { return slices.Contains(leading, key) }

// isEvent says that an attribute is a script.
func isEvent(key string) bool {
	return len(key) > 4 && key[0]|0x20 == 'o' && key[1]|0x20 == 'n'
}

// attributeName is the key of an attribute that is looked at, in small letters; empty:
// it is not.
func attributeName(key string) string {
	if key == "" {
		return ""
	}
	for _, name := range attributesBy[lowerOctet(key[0])] {
		if len(name) == len(key) && strings.EqualFold(name, key) {
			return name
		}
	}
	if isEvent(key) {
		return lowerASCII(key)
	}
	return ""
}

// attributesBy has those that are looked at by their first letter.
var attributesBy = func() (by [256][]string) {
	for _, name := range slices.Concat(leading, telling) {
		by[name[0]] = append(by[name[0]], name)
	}
	return by
}()

// page is the reading of one HTML text.
type page struct {
	w       *walk
	file    *File
	href    string // of the a that is open
	visible string // of what stands in its place
	inStyle bool

	opened markupTag // the tag that scan read last
	ahead  ahead     // of where scan is
}

// html reads an HTML text token by token: links with what stands in their place,
// scripts, forms, and links in what is only text. Nearly all of nearly every page is
// what scan reads; the library's tokenizer reads the same from where scan stops, at
// five times the cost.
func (w *walk) html(f *File, text string) {
	p := page{w: w, file: f}
	if at := p.scan(text); at < len(text) {
		p.tokens(html.NewTokenizer(strings.NewReader(text[at:])))
	}
	p.endLink()
}

func (p *page) tokens(z *html.Tokenizer) {
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			p.tag(z)
		case html.EndTagToken:
			name, _ := z.TagName()
			p.endTag(string(name))
		case html.TextToken:
			p.text(string(z.Text()))
		}
	}
}

// attribute is one of a tag, the key in lower case.
type attribute struct{ key, value string }

// maxAttributes bounds how many attributes of one tag are looked at.
const maxAttributes = 200

// tag reads the library's tag that begins something.
func (p *page) tag(z *html.Tokenizer) {
	name, more := z.TagName()
	element := string(name)
	var attributes []attribute
	for n := 0; more; n++ {
		if n >= maxAttributes {
			p.w.cut("attributes")
			break
		}
		var key, value []byte
		key, value, more = z.TagAttr()
		if name := attributeName(string(key)); name != "" {
			attributes = append(attributes, attribute{name, string(value)})
		}
	}
	p.element(element, attributes)
}

// element reads a tag that begins something.
func (p *page) element(name string, attributes []attribute) {
	p.noteTag(name)
	refresh, content := false, ""
	for _, a := range attributes {
		switch {
		case a.key == "href" && (name == "a" || name == "area"):
			p.endLink()
			p.href = a.value
		case a.key == "href" && name == "base":
			p.w.link(p.file.Place, "base", a.value, "")
		case leads(a.key):
			p.w.link(p.file.Place, a.key, a.value, "")
		case a.key == "style":
			p.style(a.value)
		case isEvent(a.key):
			p.file.Script = true
		case a.key == "http-equiv":
			refresh = strings.EqualFold(strings.TrimSpace(a.value), "refresh")
		case a.key == "content" && content == "":
			content = a.value
		case a.key == "type" && name == "input" && strings.EqualFold(a.value, "password"):
			p.file.Form = true
		}
	}
	if refresh {
		p.refresh(content)
	}
}

// noteTag notes what a page can do.
func (p *page) noteTag(name string) {
	switch name {
	case "script":
		p.file.Script = true
	case "form":
		p.file.Form = true
	case "style":
		p.inStyle = true
	}
}

// refresh reads the content of <meta http-equiv=refresh content="0; url=…">.
func (p *page) refresh(content string) {
	_, rest, _ := strings.Cut(strings.ReplaceAll(content, ",", ";"), ";")
	if i := strings.IndexByte(rest, '='); i >= 0 && strings.EqualFold(strings.TrimSpace(rest[:i]), "url") {
		rest = rest[i+1:]
	}
	p.w.link(p.file.Place, "refresh", strings.Trim(rest, " \t\r\n'\""), "")
}

// style finds url(…) in CSS.
func (p *page) style(css string) {
	for {
		before, rest, ok := strings.Cut(css, "(")
		if !ok {
			return
		}
		css = rest
		if len(before) >= 3 && strings.EqualFold(before[len(before)-3:], "url") {
			var address string
			address, css, _ = strings.Cut(rest, ")")
			p.w.link(p.file.Place, "style", strings.Trim(clip(address, maxLink), " \t\r\n'\""), "")
		}
	}
}

func (p *page) endTag(name string) {
	switch name {
	case "a":
		p.endLink()
	case "style":
		p.inStyle = false
	}
}

func (p *page) text(s string) {
	if p.inStyle {
		p.style(s)
		return
	}
	if p.href == "" {
		p.w.plainLinks(p.file.Place, s)
	} else if len(p.visible) < maxVisible {
		p.visible += clip(s, maxVisible)
	}
}

// endLink keeps the link that is open, with what stands in its place.
func (p *page) endLink() {
	if p.href != "" {
		p.w.link(p.file.Place, "href", p.href, clip(singleSpaced(p.visible), maxVisible))
	}
	p.href, p.visible = "", ""
}

// singleSpaced has one space where s has some kind of it, and none around.
func singleSpaced(s string) string {
	before := byte(' ')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c >= utf8.RuneSelf || c == ' ' && before == ' ' {
			return strings.Join(strings.Fields(s), " ")
		}
		before = c
	}
	return strings.TrimSuffix(s, " ") // nearly always it is so already
}
