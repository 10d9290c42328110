package evaluate

import "slices"

// The split of seeds. Whoever changes a threshold looks at Tuning only; what is
// published comes from Reporting. They are frozen: with other seeds, figures of
// before and after could not be compared.
var (
	tuning    = seedsFrom(1, 12)
	reporting = seedsFrom(1001, 20)
	shifted   = seedsFrom(2001, 8)
)

func seedsFrom(first uint64, n int) (list []uint64) {
	for i := range uint64(n) {
		list = append(list, first+i)
	}
	return list
}

// Tuning are the seeds that thresholds may be chosen by.
func Tuning() []uint64 { return slices.Clone(tuning) }

// Reporting are the seeds that figures are reported of: others, and fewer, for sets
// whose parameters are shifted.
func Reporting(set string) []uint64 {
	if set == "standard" {
		return slices.Clone(reporting)
	}
	return slices.Clone(shifted)
}
