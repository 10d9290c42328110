package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// The trailer is a skippable frame of zstd (RFC 8878 section 3.1.2): its magic
// number, the size of what follows, a mark that names it ours, and SHA-256 of every
// octet before it. zstd's own checksum does not cover the headers of its frames.
const (
	trailerMagic = 0x184D2A5A
	trailerMark  = "anechoic"
	trailerSize  = 4 + 4 + len(trailerMark) + sha256.Size
)

func trailer(sum []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, trailerSize), trailerMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(trailerSize-8))
	return append(append(b, trailerMark...), sum...)
}

// ageHead is how an age file begins (age-encryption.org/v1).
const ageHead = "age-encryption.org/"

// zstdHead is the magic number of a frame (RFC 8878 section 3.1.1).
const zstdHead = "\x28\xb5\x2f\xfd"

// sealed is the container on its way out: what is written to it is compressed,
// summed, and encrypted if there are recipients.
type sealed struct {
	*zstd.Encoder
	out *summed
	age io.WriteCloser // nil: not encrypted
}

// summed hashes what it passes on.
type summed struct {
	to  io.Writer
	sum hash.Hash
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.sum.Write(p[:n])
	return n, err
}

// seal begins a container. Nothing is whole before Close.
func seal(w io.Writer, recipients []age.Recipient) (s *sealed, err error) {
	s = &sealed{out: &summed{w, sha256.New()}}
	if len(recipients) > 0 {
		if s.age, err = age.Encrypt(w, recipients...); err != nil {
			return nil, err
		}
		s.out.to = s.age
	}
	s.Encoder, err = zstd.NewWriter(s.out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(4<<20))
	return s, err
}

func (s *sealed) Close() error {
	if err := s.Encoder.Close(); err != nil {
		return err
	}
	if _, err := s.out.to.Write(trailer(s.out.sum.Sum(nil))); err != nil {
		return err
	}
	if s.age != nil {
		return s.age.Close()
	}
	return nil
}

// unseal gives what a container holds. Its last Read says io.EOF only if every octet
// of the container was as it was written.
func unseal(r io.Reader, identities []age.Identity) (*zstd.Decoder, error) {
	in := bufio.NewReader(r)
	head, _ := in.Peek(len(ageHead)) // what is wrong with it is said below
	switch {
	case bytes.HasPrefix([]byte(ageHead), head) && len(head) == len(ageHead):
		if len(identities) == 0 {
			return nil, ErrSealed
		}
		opened, err := age.Decrypt(in, identities...)
		var none *age.NoIdentityMatchError
		switch {
		case errors.As(err, &none):
			return nil, ErrIdentity
		case err != nil:
			return nil, damagedf("its encryption does not open: %w", err)
		}
		in = bufio.NewReader(opened)
	case !strings.HasPrefix(string(head), zstdHead):
		return nil, damagedf("it does not begin as a backup does: is it one?")
	}
	return zstd.NewReader(&checked{in: in, sum: sha256.New()},
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow))
}

// checked gives all but the trailer, and then io.EOF if that is right.
type checked struct {
	in  *bufio.Reader
	sum hash.Hash
}

func (c *checked) Read(p []byte) (int, error) {
	ahead, err := c.in.Peek(trailerSize + 1)
	if len(ahead) <= trailerSize {
		return 0, c.end(ahead, err)
	}
	n, err := c.in.Read(p[:min(len(p), c.in.Buffered()-trailerSize)])
	c.sum.Write(p[:n])
	return n, err
}

func (c *checked) end(last []byte, err error) error {
	switch {
	case !errors.Is(err, io.EOF):
		return damagedf("it cannot be read: %w", err)
	case subtle.ConstantTimeCompare(last, trailer(c.sum.Sum(nil))) != 1:
		return damagedf("it is cut short, or its sum is not that of what it holds")
	}
	return io.EOF
}
