package detect

// Sizes of a known set: bits for each member and sums for each question give about
// one wrong "known" in a hundred.
const (
	knownBits    = 10
	knownSums    = 4
	knownFirst   = 32      // words of a new set: some two hundred members
	knownLargest = 1 << 13 // words of the largest: some fifty thousand
)

// known is a set of what an organisation has used before: recipients, senders. It
// is two Bloom filters: when the newer is full it becomes the older, and the older
// is forgotten. It may say known of something new, about once in a hundred times;
// it never says new of what is among the latest.
type known struct {
	newer, older []uint64
	members      int // of the newer
}

// budget is what is left of the memory for known sets, in words.
type budget struct{ words int }

// first adds sum and says that it was not known.
func (k *known) first(sum uint64, b *budget) bool {
	if k.newer == nil {
		k.newer = make([]uint64, knownFirst)
		b.words -= knownFirst
	}
	if has(k.newer, sum) {
		return false
	}
	fresh := !has(k.older, sum)
	if k.members >= len(k.newer)*64/knownBits {
		k.turn(b)
	}
	for i := range uint64(knownSums) {
		bit := bitOf(sum, i, len(k.newer))
		k.newer[bit/64] |= 1 << (bit % 64)
	}
	k.members++
	return fresh
}

// turn makes the newer set the older, and a new one, twice as large if there is memory.
func (k *known) turn(b *budget) {
	size := len(k.newer)
	b.words += len(k.older)
	if size < knownLargest && b.words >= 2*size {
		size *= 2
	}
	b.words -= size
	k.older, k.newer, k.members = k.newer, make([]uint64, size), 0
}

// free gives the memory back.
func (k *known) free(b *budget) {
	b.words += len(k.newer) + len(k.older)
	*k = known{}
}

func has(set []uint64, sum uint64) bool {
	if len(set) == 0 {
		return false
	}
	for i := range uint64(knownSums) {
		bit := bitOf(sum, i, len(set))
		if set[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

func bitOf(sum, i uint64, words int) uint64 {
	return (sum + i*(sum>>32|1)) % uint64(words*64)
}

// sumOf is FNV-1a over small letters with a last stirring.
func sumOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
