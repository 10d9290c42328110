package detect

import "time"

// Options bound a Detector and say from where on its signals speak. The zero value
// means the defaults.
type Options struct {
	Principals int        // organisations, sources and From domains with a baseline; default 100,000
	Domains    int        // From domains with a baseline of their own, per organisation; default 200
	Memory     int        // octets for the recipients and senders that are known, all organisations together; default 64 MiB
	FreeMail   []string   // domains of free-mail providers, besides those that are known
	Thresholds Thresholds // default: DefaultThresholds
}

// Defaults of Options.
const (
	defaultPrincipals = 100_000
	defaultDomains    = 200
	defaultMemory     = 64 << 20
)

func (o Options) withDefaults() Options {
	if o.Principals <= 0 {
		o.Principals = defaultPrincipals
	}
	if o.Domains <= 0 {
		o.Domains = defaultDomains
	}
	if o.Memory <= 0 {
		o.Memory = defaultMemory
	}
	if o.Thresholds == (Thresholds{}) {
		o.Thresholds = DefaultThresholds()
	}
	return o
}

// Thresholds are where the signals begin to speak. An hour and a day are sliding:
// the last sixty minutes and the last 24 hours, in steps.
type Thresholds struct {
	MinAge time.Duration // younger principals have no usual to be compared with

	RampFactor float64 // recipients in an hour against the usual peak and the same hour of the week
	RampFloor  int     // and no fewer than this
	RampNew    int     // of a principal younger than MinAge: this many

	CreepFactor float64 // the week's mean against the long memory
	CreepFloor  int     // recipients a day
	CreepAge    time.Duration

	NoveltyShare float64 // of recipients in an hour that the organisation never wrote to
	NoveltyMore  float64 // and this much above the usual share
	NoveltyFloor int     // recipients

	FreeShare float64 // of recipients at free-mail providers
	FreeMore  float64
	FreeFloor int

	FamilyNames   int     // local parts with one stem, in an hour
	FamilyRatio   float64 // different local parts per message
	FamilyFloor   int     // messages
	FamilyEntropy float64 // bits per character of what follows the stem
	FamilySuffix  int     // characters that follow it, on average

	MismatchShare float64 // of messages with MAIL FROM in another organisational domain than From
	MismatchFloor int

	IDHostShare float64 // of messages whose Message-ID comes from a host never seen for the source
	IDHostFloor int

	OddFloor   int           // messages of a day that are strange in several ways at once
	OddStrong  int           // or so many that are strange in nearly every way
	OddFactor  float64       // against the usual number
	DriftFloor int           // messages of an hour from an address never used before
	SettleTime time.Duration // from then on a new address counts as the source's own

	StrangerFactor float64 // recipients of an hour who are new and at free-mail providers, against the usual of a whole day
	StrangerFloor  int
	StrangerFew    int     // or so many, if they are most of the recipients
	StrangerMost   float64 // by so much more than usual

	SenderFloor  int     // recipients of one sender in two days who are new and at free-mail providers
	SenderFactor float64 // against the usual most of any sender
	SenderMore   float64 // and of its recipients so much more than usual

	PairBulk   int     // megabytes from one sender to one recipient in two days; a message adds a quarter of one
	PairFactor float64 // against the usual most of any two
	PairFloor  int     // messages

	HoursFloor   int           // messages in an hour of the week in which nothing is usual
	HoursBulk    int           // megabytes in such an hour that are worth an alarm
	Dormant      time.Duration // without mail, before it counts as asleep
	DormantFloor int           // messages of the first day after

	BounceShare    float64 // of a day's recipients
	BounceFloor    int     // bounces
	ComplaintShare float64
	ComplaintFloor int

	TenantsDay     int // foreign tenants of a day under one domain: a campaign
	RefusedBurst   int // refusals of one kind in ten minutes
	WrongFromFloor int // messages of a source in an hour with a From that is not its own

	SpreadOrgs     int           // organisations with the same new text or host
	SpreadDomains  int           // or From domains
	SpreadMessages int           // messages of it
	CommonAfter    time.Duration // a text or host this old and shared is common, and says nothing any more
	ReplayCopies   int           // transactions with the same signature from one origin
	ReplayOthers   int           // or from another origin than the first
}

// DefaultThresholds are those that docs/detection.md gives figures for.
func DefaultThresholds() Thresholds {
	const day = 24 * time.Hour
	return Thresholds{
		MinAge:     7 * day,
		RampFactor: 5, RampFloor: 500, RampNew: 2000,
		CreepFactor: 4, CreepFloor: 100, CreepAge: 28 * day,
		NoveltyShare: 0.9, NoveltyMore: 0.4, NoveltyFloor: 200,
		FreeShare: 0.8, FreeMore: 0.4, FreeFloor: 100,
		FamilyNames: 20, FamilyRatio: 0.5, FamilyFloor: 20, FamilyEntropy: 3, FamilySuffix: 5,
		MismatchShare: 0.2, MismatchFloor: 50,
		IDHostShare: 0.5, IDHostFloor: 50,
		OddFloor: 30, OddStrong: 10, OddFactor: 8, DriftFloor: 50, SettleTime: day,
		StrangerFactor: 4, StrangerFloor: 100, StrangerFew: 30, StrangerMost: 0.6,
		SenderFloor: 25, SenderFactor: 2, SenderMore: 0.3,
		PairBulk: 50, PairFactor: 3, PairFloor: 5,
		HoursFloor: 30, HoursBulk: 50, Dormant: 30 * day, DormantFloor: 50,
		BounceShare: 0.05, BounceFloor: 50, ComplaintShare: 0.003, ComplaintFloor: 5,
		TenantsDay: 3, RefusedBurst: 50, WrongFromFloor: 20,
		SpreadOrgs: 2, SpreadDomains: 3, SpreadMessages: 10, CommonAfter: 3 * day,
		ReplayCopies: 30, ReplayOthers: 3,
	}
}
