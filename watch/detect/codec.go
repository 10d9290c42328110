package detect

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// errState is what decoding says of octets that no Snapshot gave.
var errState = errors.New("octets that are no snapshot")

// codec writes a state, or reads one: each part of the state has one function that
// does both, so that what is read is what was written.
type codec struct {
	out     []byte
	in      []byte
	reading bool
	err     error
}

func (c *codec) fail() {
	if c.err == nil {
		c.err = errState
	}
	c.in = nil
}

func (c *codec) uint(v *uint64) {
	if !c.reading {
		c.out = binary.AppendUvarint(c.out, *v)
		return
	}
	x, n := binary.Uvarint(c.in)
	if n <= 0 {
		c.fail()
		return
	}
	*v, c.in = x, c.in[n:]
}

// number is any whole number; one that does not fit its type is an error.
func number[T ~int | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *codec, v *T) {
	x := uint64(*v)
	c.uint(&x)
	if c.reading {
		if *v = T(x); uint64(*v) != x {
			c.fail()
		}
	}
}

func (c *codec) fixed(v *uint64) {
	if !c.reading {
		c.out = binary.LittleEndian.AppendUint64(c.out, *v)
		return
	}
	if len(c.in) < 8 {
		c.fail()
		return
	}
	*v, c.in = binary.LittleEndian.Uint64(c.in), c.in[8:]
}

func (c *codec) float(v *float32) {
	x := uint64(math.Float32bits(*v))
	c.uint(&x)
	if c.reading {
		*v = math.Float32frombits(uint32(x))
		if f := float64(*v); math.IsNaN(f) || math.IsInf(f, 0) || x > math.MaxUint32 {
			c.fail()
		}
	}
}

func (c *codec) double(v *float64) {
	x := math.Float64bits(*v)
	c.fixed(&x)
	if c.reading {
		if *v = math.Float64frombits(x); math.IsNaN(*v) || math.IsInf(*v, 0) {
			c.fail()
		}
	}
}

// text is printable and bounded, as everything that is kept of strangers.
func (c *codec) text(v *string, limit int) {
	n := uint64(len(*v))
	c.uint(&n)
	if !c.reading {
		c.out = append(c.out, *v...)
		return
	}
	if n > uint64(min(len(c.in), limit)) {
		c.fail()
		return
	}
	*v, c.in = string(c.in[:n]), c.in[n:]
	if !isPrintable(*v) {
		c.fail()
	}
}

func (c *codec) time(v *time.Time) {
	var x uint64
	if !v.IsZero() {
		x = uint64(v.UnixNano())
	}
	c.fixed(&x)
	if c.reading {
		if *v = (time.Time{}); x != 0 {
			*v = time.Unix(0, int64(x)).UTC()
			if !isTime(*v) {
				c.fail()
			}
		}
	}
}

func (c *codec) flag(v *bool) {
	var x uint8
	if *v {
		x = 1
	}
	number(c, &x)
	if c.reading {
		*v = x == 1
	}
}

// list is a length of at most limit, and each element. An element takes at least an
// octet, so that a short input cannot ask for much memory.
func list[T any](c *codec, v *[]T, limit int, each func(*T)) {
	n := len(*v)
	number(c, &n)
	if c.reading {
		if n < 0 || n > min(limit, len(c.in)) {
			c.fail()
			return
		}
		*v = nil
		if n > 0 {
			*v = make([]T, 0, min(n, 4096))
		}
		for range n {
			var one T
			if each(&one); c.err != nil {
				return
			}
			*v = append(*v, one)
		}
		return
	}
	for i := range *v {
		each(&(*v)[i])
	}
}

func (c *codec) texts(v *[]string, limit int) {
	list(c, v, limit, func(s *string) { c.text(s, 4*maxText) })
}

// entries is a table in the order in which its entries make room.
func entries[K comparable, V any](c *codec, t *table[K, V], key func(*K), value func(*V)) {
	n := len(t.entries)
	number(c, &n)
	if !c.reading {
		t.each(func(k K, v *V) {
			key(&k)
			value(v)
		})
		return
	}
	if n < 0 || n > len(c.in) {
		c.fail()
		return
	}
	for range n {
		var k K
		var read V
		key(&k)
		value(&read)
		if c.err != nil {
			return
		}
		v, _ := t.touch(k)
		*v = read
	}
}
