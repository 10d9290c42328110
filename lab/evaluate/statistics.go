package evaluate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Interval is an estimate with where the truth lies in 95 of 100 such runs.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Of    int     `json:"of"` // cases or seeds it rests on; 0: nothing was measured
}

// confidence is the normal quantile of 95 %.
const confidence = 1.959964

// Proportion is the share of hits with Wilson's interval (E. B. Wilson, 1927), which
// holds for few cases and for shares near one.
func Proportion(hits, of int) Interval {
	if of == 0 {
		return Interval{}
	}
	n, p := float64(of), float64(hits)/float64(of)
	z2 := confidence * confidence
	middle := (p + z2/(2*n)) / (1 + z2/n)
	half := confidence / (1 + z2/n) * math.Sqrt(p*(1-p)/n+z2/(4*n*n))
	return Interval{p, min(p, max(0, middle-half)), max(p, min(1, middle+half)), of}
}

// resamples is how often the bootstrap draws.
const resamples = 2000

// Bootstrap is a statistic of values with the percentile interval of the bootstrap (B.
// Efron, 1979). The drawing is fixed, so the same values give the same interval.
func Bootstrap(values []float64, statistic func([]float64) float64) Interval {
	if len(values) == 0 {
		return Interval{}
	}
	r := rand.New(rand.NewPCG(uint64(len(values)), resamples))
	drawn, sample := make([]float64, resamples), make([]float64, len(values))
	for i := range drawn {
		for j := range sample {
			sample[j] = values[r.IntN(len(values))]
		}
		drawn[i] = statistic(sample)
	}
	slices.Sort(drawn)
	return Interval{statistic(slices.Clone(values)), drawn[resamples*25/1000], drawn[resamples*975/1000], len(values)}
}

// Rate is how often something happens in a month, from the counts and months of each
// seed: the mean over the seeds with the bootstrap's interval. Of what never happened
// nothing can be drawn: then the rule of three bounds it (J. A. Hanley and A.
// Lippman-Hand, 1983).
func Rate(counts, months []float64) Interval {
	var rates []float64
	total := 0.0
	for i, m := range months {
		if m > 0 {
			rates, total = append(rates, counts[i]/m), total+m
		}
	}
	rate := Bootstrap(rates, Mean)
	if rate.Of > 0 && rate.Value == 0 {
		rate.High = 3 / total
	}
	return rate
}

// Mean is the mean, and Quantile gives a quantile by nearest rank; both of a list that
// is not empty.
func Mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// Quantile gives the statistic that is a quantile of a list. The list is sorted by it.
func Quantile(q float64) func([]float64) float64 {
	return func(values []float64) float64 {
		slices.Sort(values)
		return values[min(len(values)-1, max(0, int(math.Ceil(q*float64(len(values))))-1))]
	}
}

// text writes an interval with a number of digits; a dash: nothing was measured.
func (i Interval) text(digits int) string {
	if i.Of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, i.Value, digits, i.Low, digits, i.High)
}
