package mail

// Envelope is what SMTP says beside the message (RFC 5321 section 2.3.1).
type Envelope struct {
	From       Address     `json:"from"`             // zero: the null reverse-path
	EightBit   bool        `json:"8bit,omitempty"`   // BODY=8BITMIME was given (RFC 6152)
	UTF8       bool        `json:"utf8,omitempty"`   // SMTPUTF8 was given (RFC 6531): addresses and header may be UTF-8
	RequireTLS bool        `json:"reqtls,omitempty"` // REQUIRETLS was given (RFC 8689): never on a connection that is not verified
	Ret        string      `json:"ret,omitempty"`    // DSN: "FULL", "HDRS" or empty (RFC 3461 section 4.3)
	EnvID      string      `json:"envid,omitempty"`  // DSN: ENVID, still in xtext (section 4.4)
	Recipients []Recipient `json:"-"`                // in the order of the RCPT commands
}

// Recipient is one accepted RCPT with its DSN parameters (RFC 3461 section 4).
type Recipient struct {
	Address Address `json:"address"`
	Notify  Notify  `json:"notify,omitempty"`
	ORcpt   string  `json:"orcpt,omitempty"` // ORCPT as given: "type;xtext"; empty if absent
}

// Notify says when the sender wants to hear of a recipient's fate. Zero is the
// default: failure and, as the relay sees fit, delay.
type Notify uint8

// The values of NOTIFY=, which may be combined; NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// OnFailure says that a bounce is wanted.
func (n Notify) OnFailure() bool { return n == 0 || n&NotifyFailure != 0 }
