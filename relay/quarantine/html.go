package quarantine

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxHTML is how much of an HTML text is looked at.
const maxHTML = 1 << 20

// unseen are elements whose text no reader sees.
var unseen = map[atom.Atom]bool{atom.Script: true, atom.Style: true, atom.Title: true, atom.Noscript: true, atom.Template: true, atom.Iframe: true, atom.Object: true, atom.Svg: true}

// blocks are elements that begin a line.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Br: true, atom.Tr: true, atom.Li: true, atom.Ul: true, atom.Ol: true, atom.Table: true, atom.Hr: true, atom.Pre: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Blockquote: true, atom.Section: true, atom.Article: true,
	atom.Header: true, atom.Footer: true, atom.Form: true, atom.Dt: true, atom.Dd: true,
}

// reduction is the reading of one HTML text.
type reduction struct {
	out   strings.Builder
	skip  atom.Atom // the element whose text is not shown
	depth int       // how often it is open
	href  string    // of the link that is open
	space bool      // a space is due
}

// HTMLText reduces HTML to the text that a reader would see. Links follow their
// text in brackets, so that they cannot be followed by accident; pictures are their
// descriptions. What the author hid with styles is shown: it is what filters saw.
// Nothing is loaded. The result is not safe to show yet: VisibleText is for that.
func HTMLText(text string) string {
	var r reduction
	z := html.NewTokenizer(strings.NewReader(text[:min(len(text), maxHTML)]))
	for r.out.Len() < 2*maxText {
		switch z.Next() {
		case html.ErrorToken:
			r.endLink()
			return strings.TrimSpace(r.out.String())
		case html.StartTagToken, html.SelfClosingTagToken:
			r.begin(z.Token())
		case html.EndTagToken:
			name, _ := z.TagName()
			r.end(atom.Lookup(name))
		case html.TextToken:
			if r.skip == 0 {
				r.text(string(z.Text()))
			}
		}
	}
	return strings.TrimSpace(r.out.String())
}

func (r *reduction) begin(t html.Token) {
	switch {
	case r.skip != 0:
		if t.DataAtom == r.skip && t.Type == html.StartTagToken {
			r.depth++
		}
	case unseen[t.DataAtom] && t.Type == html.StartTagToken:
		r.skip, r.depth = t.DataAtom, 1
	case t.DataAtom == atom.A:
		r.endLink()
		r.href = attribute(t, "href")
	case t.DataAtom == atom.Img:
		if alt := attribute(t, "alt"); strings.TrimSpace(alt) != "" {
			r.text("[picture: " + alt + "]")
		}
	case t.DataAtom == atom.Td || t.DataAtom == atom.Th:
		r.space = true
	case blocks[t.DataAtom]:
		r.line()
	}
}

func (r *reduction) end(a atom.Atom) {
	switch {
	case r.skip != 0:
		if a == r.skip {
			if r.depth--; r.depth == 0 {
				r.skip = 0
			}
		}
	case a == atom.A:
		r.endLink()
	case blocks[a]:
		r.line()
	}
}

// endLink writes where the link that is open leads.
func (r *reduction) endLink() {
	if r.href != "" {
		r.text(" [link: " + Defanged(r.href[:min(len(r.href), maxLine)]) + "]")
	}
	r.href = ""
}

// text writes words with one space between them, as a page shows them.
func (r *reduction) text(s string) {
	if s == "" {
		return
	}
	words := strings.Fields(s)
	r.space = r.space || strings.TrimLeft(s, " \t\r\n") != s
	for _, w := range words {
		if r.space && r.out.Len() > 0 && !strings.HasSuffix(r.out.String(), "\n") {
			r.out.WriteByte(' ')
		}
		r.out.WriteString(w)
		r.space = true
	}
	r.space = strings.TrimRight(s, " \t\r\n") != s || len(words) == 0 && r.space
}

// line begins a new line; more than one empty line is not written.
func (r *reduction) line() {
	r.space = false
	if !strings.HasSuffix(r.out.String(), "\n\n") && r.out.Len() > 0 {
		r.out.WriteByte('\n')
	}
}

func attribute(t html.Token, name string) string {
	for _, a := range t.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
