package content

// Text is a part that programs show as the message itself, decoded. It is what a
// stranger wrote: control characters and markup too.
type Text struct {
	Place string
	HTML  bool
	Text  string
}

// keepText keeps a shown text for who wants to look at it, within the limit.
func (w *walk) keepText(f *File, text string) {
	room := w.limits.KeptText - w.kept
	if !f.Shown || room <= 0 || text == "" {
		return
	}
	text = clip(text, room)
	w.kept += len(text)
	w.content.Texts = append(w.content.Texts, Text{Place: f.Place, HTML: f.isPage(), Text: text})
}

// isPage says that a text is markup.
func (f *File) isPage() bool {
	return f.Kind == KindHTML || f.Kind == KindSVG || f.Type == "text/html" || f.Type == "application/xhtml+xml"
}
