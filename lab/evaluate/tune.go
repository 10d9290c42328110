package evaluate

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"anechoic/lab/campaign"
	"anechoic/watch/detect"
)

// Tried is what one other value of one threshold would have done on the Tuning seeds.
type Tried struct {
	Threshold string   `json:"threshold"` // empty: all as they are
	Value     string   `json:"value"`
	Recall    Interval `json:"recall"`
	False     Interval `json:"false"` // episodes, those at stresses too, an organisation and month
	Precision Interval `json:"precision"`
}

// tuneFactors are what a threshold is multiplied with.
var tuneFactors = []float64{0.5, 2}

// Thresholds are the names of the thresholds that Tune knows.
func Thresholds() (names []string) {
	t := reflect.TypeFor[detect.Thresholds]()
	for i := range t.NumField() {
		names = append(names, t.Field(i).Name)
	}
	return names
}

// Tune tries each named threshold at half and at twice its value, the others as they
// are, on the Tuning seeds and no others. It changes nothing: who changes a default
// reads it.
func Tune(ctx context.Context, p campaign.Parameters, names []string, seeds []uint64, o Options, progress func(Tried)) (list []Tried, err error) {
	if o.Detect.Thresholds == (detect.Thresholds{}) {
		o.Detect.Thresholds = detect.DefaultThresholds()
	}
	try := func(name, value string, o Options) error {
		r, err := Run(ctx, p, seeds, o, nil)
		if err != nil {
			return err
		}
		one := Tried{name, value, r.Recall, r.WithStresses, r.Precision}
		list = append(list, one)
		if progress != nil {
			progress(one)
		}
		return nil
	}
	if err := try("", "", o); err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.Contains(Thresholds(), name) {
			return nil, fmt.Errorf("evaluate: there is no threshold %q, but: %s", name, strings.Join(Thresholds(), ", "))
		}
		for _, factor := range tuneFactors {
			changed := o
			value := scale(&changed.Detect.Thresholds, name, factor)
			if err := try(name, value, changed); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// scale multiplies a threshold, and gives what it is then.
func scale(t *detect.Thresholds, name string, factor float64) string {
	field := reflect.ValueOf(t).Elem().FieldByName(name)
	switch {
	case field.Type() == reflect.TypeFor[time.Duration]():
		field.SetInt(int64(float64(field.Int()) * factor))
		return field.Interface().(time.Duration).String()
	case field.CanInt():
		field.SetInt(max(1, int64(float64(field.Int())*factor)))
	case field.CanFloat():
		field.SetFloat(field.Float() * factor)
	}
	return fmt.Sprint(field.Interface())
}
