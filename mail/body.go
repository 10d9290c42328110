package mail

import (
	"bytes"
	"errors"
	"io"
	"os"
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
	// Expected is how many octets may come, as a client declared: room for them is
	// made at once, within a bound. Zero: not known.
	Expected int64

	mem  []byte
	file *os.File
	size int64
}

// maxExpected bounds what a declaration alone can make this program allocate.
const maxExpected = 64 << 10

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
	w.grow(len(p))
	w.mem = append(w.mem, p...)
	w.size += int64(len(p))
	return len(p), nil
}

// grow makes room for n octets more: twice what there is, because what was there is
// left to the collector.
func (w *BodyWriter) grow(n int) {
	switch need := len(w.mem) + n; {
	case need <= cap(w.mem):
		return
	case w.mem == nil:
		w.mem = make([]byte, 0, max(int64(need), min(w.Expected, maxExpected)))
	default:
		mem := make([]byte, len(w.mem), max(need, 2*cap(w.mem)))
		copy(mem, w.mem)
		w.mem = mem
	}
}

func (w *BodyWriter) spill() error {
	f, err := os.CreateTemp(w.Dir, "body-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Write(w.mem); err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.mem = f, nil
	return nil
}

// Body ends the writing. The caller closes the Body.
func (w *BodyWriter) Body() *Body { return &Body{mem: w.mem, file: w.file, size: w.size} }

// Abort gives up what was written.
func (w *BodyWriter) Abort() error { return w.Body().Close() }
