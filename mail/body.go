package mail

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
)

// Message is a header and a body as they were received, octet for octet.
type Message struct {
	Header Header
	Body   *Body
}

// Size is the number of octets of header, empty line and body.
func (m Message) Size() int64 { return int64(m.Header.Size()) + m.Body.Size() }

// Body is what follows the empty line: in memory, or in a temporary file past a
// threshold. It can be read several times, and by several readers. Whoever made
// it closes it.
type Body struct {
	mem  []byte
	file *os.File
	size int64
}

// NewBody is a body in memory. It keeps b.
func NewBody(b []byte) *Body { return &Body{mem: b, size: int64(len(b))} }

// Size is the number of octets.
func (b *Body) Size() int64 { return b.size }

// Reader reads the body from its start.
func (b *Body) Reader() io.Reader {
	if b.file != nil {
		return io.NewSectionReader(b.file, 0, b.size)
	}
	return bytes.NewReader(b.mem)
}

// InMemory gives the bytes, shared, if they are in memory. They stay after Close.
func (b *Body) InMemory() ([]byte, bool) { return b.mem, b.file == nil }

// Close gives up the temporary file, if there is one.
func (b *Body) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// BodyWriter collects a body: in memory up to Threshold octets, past that in a
// file of Dir that has no name any more, so that a crash leaves nothing behind.
type BodyWriter struct {
	Threshold int64
	Dir       string

	mem  *bytes.Buffer // of collecting; nil: nothing is there yet
	file *os.File
	size int64
}

// collecting has buffers in which bodies grow. A Body in memory is a copy of its own
// size: what it grew out of would be left to the collector, three times that.
var collecting = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, firstRoom)) }}

// firstRoom holds most bodies; lastRoom is the largest buffer that is kept.
const (
	firstRoom = 32 << 10
	lastRoom  = 512 << 10
)

// Write takes the next octets. An error is one of the disk's.
func (w *BodyWriter) Write(p []byte) (int, error) {
	if w.file == nil && w.size+int64(len(p)) > w.Threshold {
		if err := w.spill(); err != nil {
			return 0, err
		}
	}
	if w.file != nil {
		n, err := w.file.Write(p)
		w.size += int64(n)
		return n, err
	}
	if w.mem == nil {
		w.mem = collecting.Get().(*bytes.Buffer)
	}
	w.size += int64(len(p))
	return w.mem.Write(p)
}

// release gives the buffer back.
func (w *BodyWriter) release() {
	if w.mem != nil && w.mem.Cap() <= lastRoom {
		w.mem.Reset()
		collecting.Put(w.mem)
	}
	w.mem = nil
}

func (w *BodyWriter) spill() error {
	f, err := os.CreateTemp(w.Dir, "body-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if w.mem != nil {
		if _, err := f.Write(w.mem.Bytes()); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	w.file = f
	w.release()
	return nil
}

// Body ends the writing: nothing is written after it. The caller closes the Body.
func (w *BodyWriter) Body() *Body {
	b := &Body{file: w.file, size: w.size}
	if w.mem != nil {
		b.mem = bytes.Clone(w.mem.Bytes())
		w.release()
	}
	return b
}

// Abort gives up what was written.
func (w *BodyWriter) Abort() error {
	w.release()
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
