package lab

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// mostPicture is the size that a README can carry.
const mostPicture = 200 << 10

// drawing is what a test reads out of a picture.
type drawing struct {
	titles []string // of the picture, then of its frames
	texts  []string // of the last frame
	tags   map[string]bool
}

func readPicture(t *testing.T, data []byte) drawing {
	t.Helper()
	d := drawing{tags: map[string]bool{}}
	decoder, inside := xml.NewDecoder(bytes.NewReader(data)), ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			inside = token.Name.Local
			d.tags[inside] = true
			if inside == "g" {
				d.texts = nil
			}
		case xml.EndElement:
			inside = ""
		case xml.CharData:
			switch inside {
			case "title":
				d.titles = append(d.titles, string(token))
			case "text":
				d.texts = append(d.texts, string(token))
			}
		}
	}
}

// TestThePictureShowsTheRun makes one, and compares its shape with that of the
// manual's: go run ./cmd/anechoic demo --picture docs/demo.svg makes that anew.
func TestThePictureShowsTheRun(t *testing.T) {
	run := shown()
	if run.err != nil {
		t.Fatal(run.err)
	}
	made := pictureIn(t, "the picture made now", run.picture)
	if last := strings.Join(made.texts, "\n"); !strings.Contains(last, "Spoofs signed: 0 of 24.") || !strings.Contains(last, "0 of 24") || !strings.Contains(last, "12 of 12") {
		t.Errorf("the last frame lacks the figures:\n%s", last)
	}
	data, err := os.ReadFile("../docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	kept := pictureIn(t, "docs/demo.svg", data)
	if !slices.Equal(kept.titles, made.titles) {
		t.Errorf("docs/demo.svg is of another shape: make it anew with anechoic demo --picture docs/demo.svg\nit has %q\nnow    %q", kept.titles, made.titles)
	}
	if last := strings.Join(kept.texts, "\n"); !strings.Contains(last, "Spoofs signed: 0 of 2000. Legitimate messages lost: 0 of 200.") {
		t.Errorf("docs/demo.svg ends with\n%s", last)
	}
}

func pictureIn(t *testing.T, file string, data []byte) drawing {
	t.Helper()
	if len(data) > mostPicture {
		t.Errorf("%s has %d octets", file, len(data))
	}
	d := readPicture(t, data)
	if d.tags["script"] || !d.tags["desc"] || len(d.titles) < 10 {
		t.Errorf("%s: elements %v, titles %q", file, d.tags, d.titles)
	}
	for _, s := range []string{"prefers-color-scheme: dark", "prefers-reduced-motion", `role="img"`} {
		if !bytes.Contains(data, []byte(s)) {
			t.Errorf("%s has no %s", file, s)
		}
	}
	for _, s := range []string{"<script", "javascript:", "http://www.w3.org/1999/xlink", "url("} {
		if bytes.Contains(data, []byte(s)) {
			t.Errorf("%s has %s", file, s)
		}
	}
	return d
}

func TestAPictureOfStrangersTextIsWellFormed(t *testing.T) {
	hostile := "</text><script>x</script>&\x00\x1b[2J\u202e]]>"
	data := drawPicture(hostile, hostile, []frame{{hostile, frameShort, []line{{{bad, hostile}}}}, {hostile, 0, []line{textLine("end")}}})
	if d := readPicture(t, data); d.tags["script"] || d.titles[0] != printable(hostile) {
		t.Errorf("it reads as %+v", d)
	}
}
