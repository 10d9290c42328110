package limit

import (
	"math"
	"time"
)

// Amount is what a message takes of each kind of budget.
type Amount struct {
	Messages   int64
	Recipients int64
	Bytes      int64
}

// Caps bounds one principal; zero of any is no bound. Those of a minute and an hour
// are rates: all of it at once to who was quiet, and evenly back, so at most twice
// the number in any such span. Those of a day are exact: never more in any 24 hours.
type Caps struct {
	MessagesPerMinute   int64
	MessagesPerHour     int64
	RecipientsPerMinute int64
	RecipientsPerHour   int64
	BytesPerHour        int64

	MessagesPerDay   int64
	RecipientsPerDay int64
	BytesPerDay      int64
	UniquePerDay     int64 // different recipients
}

// Unit is what a cap counts, in the words of the configuration.
type Unit string

// The units, as the registry writes them.
const (
	MessagesPerMinute   Unit = "messages_per_minute"
	MessagesPerHour     Unit = "messages_per_hour"
	RecipientsPerMinute Unit = "recipients_per_minute"
	RecipientsPerHour   Unit = "recipients_per_hour"
	BytesPerHour        Unit = "bytes_per_hour"
	MessagesPerDay      Unit = "messages_per_day"
	RecipientsPerDay    Unit = "recipients_per_day"
	BytesPerDay         Unit = "bytes_per_day"
	UniquePerDay        Unit = "unique_recipients_per_day"
)

// Times gives each cap of c times n: what several of a kind may do together. What c
// does not bound stays without a bound.
func (c Caps) Times(n int64) Caps {
	return Caps{
		c.MessagesPerMinute * n, c.MessagesPerHour * n, c.RecipientsPerMinute * n, c.RecipientsPerHour * n, c.BytesPerHour * n,
		c.MessagesPerDay * n, c.RecipientsPerDay * n, c.BytesPerDay * n, c.UniquePerDay * n,
	}
}

// Or gives c, and for what c does not bound the caps of others.
func (c Caps) Or(others Caps) Caps {
	for i, mine := range c.all() {
		if *mine == 0 {
			*mine = *others.all()[i]
		}
	}
	return c
}

func (c *Caps) all() [9]*int64 {
	return [9]*int64{
		&c.MessagesPerMinute, &c.MessagesPerHour, &c.RecipientsPerMinute, &c.RecipientsPerHour, &c.BytesPerHour,
		&c.MessagesPerDay, &c.RecipientsPerDay, &c.BytesPerDay, &c.UniquePerDay,
	}
}

// Preset names published limits of a provider.
type Preset string

// The presets.
const (
	Microsoft365Preset      Preset = "microsoft365"
	Microsoft365TrialPreset Preset = "microsoft365-trial"
	GooglePreset            Preset = "google"
)

// Numbers the providers publish.
const (
	microsoftTrial     = 5_000     // external recipients of a trial tenant in 24 hours
	googlePerUser      = 10_000    // messages, and different recipients, of one user through the SMTP relay service in 24 hours
	googlePerDay       = 4_600_000 // recipients of one customer through the SMTP relay service in 24 hours
	googleInTenMinutes = 319_444   // recipients of one customer in ten minutes
	maxLicences        = 10_000_000
)

// MicrosoftRecipients is Exchange Online's Tenant External Recipient Rate Limit: how
// many external recipients a tenant with so many licences may have in any 24 hours.
// We count every recipient, which is never less.
func MicrosoftRecipients(licences int) int64 {
	n := float64(min(max(licences, 1), maxLicences))
	return int64(math.Round(500*math.Pow(n, 0.7) + 9500))
}

// Of gives the caps of a preset; false: there is none of that name. Without
// licences it is the smallest customer's.
func (p Preset) Of(licences int) (Caps, bool) {
	switch p {
	case Microsoft365Preset:
		return Caps{RecipientsPerDay: MicrosoftRecipients(licences)}, true
	case Microsoft365TrialPreset:
		return Caps{RecipientsPerDay: microsoftTrial}, true
	case GooglePreset:
		users := int64(min(max(licences, 1), maxLicences))
		return Caps{
			MessagesPerDay: users * googlePerUser, UniquePerDay: min(users*googlePerUser, googlePerDay),
			RecipientsPerDay: googlePerDay, RecipientsPerMinute: googleInTenMinutes / 10,
		}, true
	}
	return Caps{}, false
}

// rates gives the caps that are rates, in the order an account keeps them.
func (c *Caps) rates() [rateCount]rate {
	return [rateCount]rate{
		{MessagesPerMinute, c.MessagesPerMinute, time.Minute, byMessages},
		{MessagesPerHour, c.MessagesPerHour, time.Hour, byMessages},
		{RecipientsPerMinute, c.RecipientsPerMinute, time.Minute, byRecipients},
		{RecipientsPerHour, c.RecipientsPerHour, time.Hour, byRecipients},
		{BytesPerHour, c.BytesPerHour, time.Hour, byBytes},
	}
}

const rateCount = 5

// days gives the caps that are exact over a day, but for the one of different
// recipients.
func (c *Caps) days() [3]rate {
	return [3]rate{
		{MessagesPerDay, c.MessagesPerDay, Day, byMessages},
		{RecipientsPerDay, c.RecipientsPerDay, Day, byRecipients},
		{BytesPerDay, c.BytesPerDay, Day, byBytes},
	}
}

// rate is one cap.
type rate struct {
	unit Unit
	most int64
	span time.Duration
	of   kind
}

// kind is which number of an Amount a cap counts.
type kind uint8

const (
	byMessages kind = iota
	byRecipients
	byBytes
)

// of gives one number of an amount.
func (a *Amount) of(k kind) int64 {
	switch k {
	case byMessages:
		return a.Messages
	case byRecipients:
		return a.Recipients
	}
	return a.Bytes
}

func (a *Amount) add(b Amount, sign int64) {
	a.Messages += sign * b.Messages
	a.Recipients += sign * b.Recipients
	a.Bytes += sign * b.Bytes
}
