package campaign

import "time"

// week is how much of a working day's mail is sent on each day, from Sunday on.
var week = [7]float64{0.06, 1, 1.08, 1.06, 1.02, 0.84, 0.1}

// hours is the share of a day's mail in each hour of the sender's clock: people come
// between seven and nine, eat at noon, and are gone by seven. They sum to one.
var hours = [24]float64{
	0.002, 0.001, 0.001, 0.001, 0.002, 0.006, 0.02, 0.055, 0.1, 0.125, 0.12, 0.105,
	0.065, 0.085, 0.105, 0.09, 0.06, 0.03, 0.01, 0.006, 0.004, 0.003, 0.003, 0.001,
}

// officeShare is the share of a working day's mail that people send in the hour
// that begins at a time, by a clock that is ahead of UTC by zone.
func officeShare(at time.Time, zone time.Duration) float64 {
	local := at.Add(zone)
	return week[local.Weekday()] * hours[local.Hour()]
}

// machineShare is the same for an application that works through the night: half of
// it as people do, for it does what they ask, and half evenly.
func machineShare(at time.Time, zone time.Duration) float64 {
	const night = 0.5
	return (1-night)*officeShare(at, zone) + night*week[at.Add(zone).Weekday()]/24
}

// isMonthEnd says that invoices are written: the last day of a month and the two
// after it.
func isMonthEnd(local time.Time) bool {
	return local.Day() <= 2 || local.AddDate(0, 0, 1).Day() == 1
}
