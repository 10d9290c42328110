package campaign

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
)

// generator is a stream of random numbers of its own for everything that has a name:
// what one flow draws does not change another.
func generator(seed uint64, name ...any) *rand.Rand {
	return rand.New(rand.NewPCG(seed, sum(name...)))
}

// sum is a fixed number for a name.
func sum(name ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, name...)
	return mix(h.Sum64())
}

// mix spreads what differs in few bits over all of them (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// poisson draws how many of many rare things happen. From wide on the normal
// distribution is the same for our purpose.
func poisson(r *rand.Rand, mean float64) int {
	const wide = 30
	switch {
	case mean <= 0:
		return 0
	case mean > wide:
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, limit := 0, 1.0, math.Exp(-mean)
	for {
		if p *= r.Float64(); p <= limit {
			return n
		}
		n++
	}
}

// pareto draws from the Pareto distribution between two bounds.
func pareto(r *rand.Rand, low, high, tail float64) float64 {
	u := r.Float64()
	l, h := math.Pow(low, -tail), math.Pow(high, -tail)
	return math.Pow(l-u*(l-h), -1/tail)
}

// lognormal is a factor around one.
func lognormal(r *rand.Rand, deviation float64) float64 { return math.Exp(deviation * r.NormFloat64()) }

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

const lettersAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789"

// letters is a random word.
func letters(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(lettersAndDigits[r.IntN(len(lettersAndDigits))])
	}
	return b.String()
}

// guid is a fixed GUID for a name.
func guid(name ...any) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], sum(append(name, "high")...))
	binary.BigEndian.PutUint64(b[8:], sum(append(name, "low")...))
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// near is a sum of text as another letter from the same template has: few bits differ.
func near(r *rand.Rand, text uint64) uint64 {
	for range r.IntN(4) {
		text ^= 1 << r.IntN(64)
	}
	return text
}
