package api

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"anechoic/mail"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
	"anechoic/relay/screen/content"
)

// Bounds of what is read for a preview.
const (
	maxPreviewed   = 8 << 20   // octets of the body
	maxPreviewText = 256 << 10 // of its texts, before they are reduced
)

// preview reads a detained message as safe text. Archives stay closed.
func (s *Server) preview(header mail.Header, stored custody.Content) (*quarantine.Preview, error) {
	body, err := io.ReadAll(io.LimitReader(stored.Body(), maxPreviewed+1))
	if err != nil {
		return nil, fmt.Errorf("read a detained message: %w", err)
	}
	cut := len(body) > maxPreviewed
	body = body[:min(len(body), maxPreviewed)]
	read, err := content.Read(mail.Message{Header: header, Body: mail.NewBody(body)}, content.Limits{KeptText: maxPreviewText, Files: 1, ArchiveDepth: 1, ArchiveMemory: 1, Unpacked: 1})
	if err != nil {
		return nil, err
	}
	parts, files := []quarantine.Part{}, []quarantine.Attachment{}
	octets := 0
	for _, t := range read.Texts {
		parts = append(parts, quarantine.Part(t))
		octets += len(t.Text)
	}
	shown := map[string]bool{}
	for _, t := range read.Texts {
		shown[t.Place] = true
	}
	for _, f := range read.Files {
		if f.Packed || shown[f.Place] {
			continue
		}
		files = append(files, quarantine.Attachment{Place: f.Place, Name: f.Name(), Type: f.Type, Found: string(f.Kind), Size: f.Size})
	}
	p := quarantine.Show(header, parts, files, cut || octets >= maxPreviewText)
	return &p, nil
}

// exported is GET /api/v1/quarantine/{id}/copy: the message as it would be sent,
// without evidence, and with a warning on top. That it left so is a fact before its
// first octet does.
func (s *Server) exported(w http.ResponseWriter, r *http.Request) {
	if err := s.export(w, r); err != nil {
		p := problemOf(err)
		s.Log.Log(r.Context(), levelOf(p), "control request refused", "method", r.Method, "path", r.URL.Path, "code", p.Code, "error", err)
		write(w, p)
	}
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return err
	}
	d, stored, err := s.Queue.LoadDetained(r.Context(), id)
	if err != nil {
		return detentionProblem(id, err)
	}
	header, err := mail.ParseHeader(stored.Header(), mail.HeaderLimits{})
	if err != nil {
		return fmt.Errorf("detained %s: its header: %w", id, err)
	}
	dir, _ := s.Directory()
	header = quarantine.Copy(attribution.Strip(dir, header), &d)
	by := asker(r, r.URL.Query().Get("by"))
	if err := s.Queue.ReadDetained(r.Context(), id, by, time.Now()); err != nil {
		return detentionProblem(id, err)
	}
	s.Log.Info("a copy of a detained message leaves", "id", id, "org", string(d.Organisation), "by", by)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(verifyTimeout)) // a recorder in a test has none
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Disposition", `attachment; filename="`+string(id)+`.eml"`)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, err := w.Write(header.Bytes()); err != nil {
		return nil // a peer that went away
	}
	if _, err := io.Copy(w, stored.Body()); err != nil {
		panic(http.ErrAbortHandler) // so that the peer sees that it is not whole
	}
	return nil
}
