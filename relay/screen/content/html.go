package content

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// maxVisible is how much of what a reader sees in the place of a link is kept.
const maxVisible = 256

// linkAttributes are the attributes that lead elsewhere or load something.
var linkAttributes = map[string]bool{
	"href": true, "xlink:href": true, "src": true, "action": true, "formaction": true, "data": true,
	"background": true, "poster": true, "cite": false, "longdesc": false, "code": true, "codebase": true, "srcdoc": false,
}

// page is the reading of one HTML text.
type page struct {
	w       *walk
	file    *File
	href    string // of the a that is open
	visible strings.Builder
	inStyle bool
}

// html reads an HTML text token by token: links with what stands in their place,
// scripts, forms, and links in what is only text. Most tags and texts have nothing
// of it, which their raw octets show.
func (w *walk) html(f *File, text string) {
	p := page{w: w, file: f}
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		switch z.Next() {
		case html.ErrorToken:
			p.endLink()
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			if !isPlainTag(z.Raw()) {
				p.tag(z)
			}
		case html.EndTagToken:
			if raw := z.Raw(); len(raw) > 2 && (raw[2]|0x20 == 'a' || raw[2]|0x20 == 's') {
				name, _ := z.TagName()
				p.endTag(string(name))
			}
		case html.TextToken:
			if p.href != "" || p.inStyle || bytes.ContainsAny(z.Raw(), ":.&") { // & may stand for one of the others
				p.text(string(z.Text()))
			}
		}
	}
}

// isPlainTag says that a tag has no attributes and means nothing here: <b>.
func isPlainTag(raw []byte) bool {
	name := raw[1 : len(raw)-1]
	for _, c := range name {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return len(name) == 2 && c >= '1' && c <= '6' // <h1>
		}
	}
	switch len(name) {
	case len("a"):
		return name[0]|0x20 != 'a'
	case len("area"), len("input"), len("script"): // form and style are as long as these
		return false
	}
	return true
}

// maxAttributes bounds how many attributes of one tag are looked at.
const maxAttributes = 200

// tag reads a tag that begins something.
func (p *page) tag(z *html.Tokenizer) {
	text, more := z.TagName()
	name := string(text)
	p.noteTag(name)
	refresh, content := false, ""
	for n := 0; more; n++ {
		if n >= maxAttributes {
			p.w.cut("attributes")
			return
		}
		var key, value []byte
		key, value, more = z.TagAttr()
		switch k := string(key); {
		case k == "href" && (name == "a" || name == "area"):
			p.endLink()
			p.href = string(value)
		case k == "href" && name == "base":
			p.w.link(p.file.Place, "base", string(value), "")
		case linkAttributes[k]:
			p.w.link(p.file.Place, k, string(value), "")
		case k == "style":
			p.style(string(value))
		case strings.HasPrefix(k, "on") && len(k) > 4:
			p.file.Script = true
		case k == "http-equiv":
			refresh = bytes.EqualFold(bytes.TrimSpace(value), []byte("refresh"))
		case k == "content" && content == "":
			content = string(value)
		case k == "type" && name == "input" && bytes.EqualFold(value, []byte("password")):
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
	} else if p.visible.Len() < maxVisible {
		p.visible.WriteString(clip(s, maxVisible))
	}
}

// endLink keeps the link that is open, with what stands in its place.
func (p *page) endLink() {
	if p.href != "" {
		visible := clip(strings.Join(strings.Fields(p.visible.String()), " "), maxVisible)
		p.w.link(p.file.Place, "href", p.href, visible)
	}
	p.href = ""
	p.visible.Reset()
}
