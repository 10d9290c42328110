package content

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
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
// scripts, forms, and links in what is only text.
func (w *walk) html(f *File, text string) {
	p := page{w: w, file: f}
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		switch z.Next() {
		case html.ErrorToken:
			p.endLink()
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			p.tag(z.Token())
		case html.EndTagToken:
			name, _ := z.TagName()
			p.endTag(string(name))
		case html.TextToken:
			p.text(string(z.Text()))
		}
	}
}

// maxAttributes bounds how many attributes of one tag are looked at.
const maxAttributes = 200

func (p *page) tag(t html.Token) {
	p.noteTag(t)
	refresh := false
	for i, a := range t.Attr {
		if i >= maxAttributes {
			p.w.cut("attributes")
			return
		}
		key := strings.ToLower(a.Key)
		switch {
		case key == "href" && (t.DataAtom == atom.A || t.DataAtom == atom.Area):
			p.endLink()
			p.href = a.Val
		case key == "href" && t.DataAtom == atom.Base:
			p.w.link(p.file.Place, "base", a.Val, "")
		case linkAttributes[key]:
			p.w.link(p.file.Place, key, a.Val, "")
		case key == "style":
			p.style(a.Val)
		case strings.HasPrefix(key, "on") && len(key) > 4:
			p.file.Script = true
		case key == "http-equiv":
			refresh = strings.EqualFold(strings.TrimSpace(a.Val), "refresh")
		}
	}
	if refresh {
		p.refresh(t)
	}
}

// noteTag notes what a page can do.
func (p *page) noteTag(t html.Token) {
	switch t.DataAtom {
	case atom.Script:
		p.file.Script = true
	case atom.Form, atom.Input:
		p.file.Form = p.file.Form || t.DataAtom == atom.Form || isPassword(t)
	case atom.Style:
		p.inStyle = true
	}
}

func isPassword(t html.Token) bool {
	for _, a := range t.Attr {
		if a.Key == "type" && strings.EqualFold(a.Val, "password") {
			return true
		}
	}
	return false
}

// refresh reads <meta http-equiv=refresh content="0; url=…">.
func (p *page) refresh(t html.Token) {
	for _, a := range t.Attr {
		if a.Key != "content" {
			continue
		}
		_, rest, _ := strings.Cut(strings.ReplaceAll(a.Val, ",", ";"), ";")
		if i := strings.IndexByte(rest, '='); i >= 0 && strings.EqualFold(strings.TrimSpace(rest[:i]), "url") {
			rest = rest[i+1:]
		}
		p.w.link(p.file.Place, "refresh", strings.Trim(rest, " \t\r\n'\""), "")
	}
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
