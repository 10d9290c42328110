package mail

// Reason is the stable word for why a message was not simply relayed. It stands
// in replies, in the ledger, in search, metrics and documentation (docs/reasons).
// The set is closed: Reasons lists it.
type Reason string

// The reasons. The replies that carry them are in replies.go.
const (
	ReasonRelayDenied         Reason = "RELAY_DENIED"          // the peer can prove nothing and wants mail sent elsewhere
	ReasonTLSRequired         Reason = "TLS_REQUIRED"          // the command or proof needs TLS
	ReasonAuthRequired        Reason = "AUTH_REQUIRED"         // the submission port wants a credential
	ReasonAuthFailed          Reason = "AUTH_FAILED"           // wrong user name or password, or an address the credential is not for
	ReasonPeerNotEOP          Reason = "PEER_NOT_EOP"          // in the provider's range, but without the provider's confirmed name
	ReasonRelayPool           Reason = "RELAY_POOL"            // the provider's pool for mail it does not vouch for
	ReasonAttributionMissing  Reason = "ATTRIBUTION_MISSING"   // the provider's stamps are not both there
	ReasonAttributionAmbig    Reason = "ATTRIBUTION_AMBIGUOUS" // a stamp is there more than once, or is malformed
	ReasonAttributionConflict Reason = "ATTRIBUTION_CONFLICT"  // proofs claim different organisations
	ReasonTenantNotAuthorized Reason = "TENANT_NOT_AUTHORIZED" // the tenant is nobody's source here
	ReasonTenantReserved      Reason = "TENANT_RESERVED"       // a tenant that belongs to nobody, as consumer outlook.com
	ReasonSecondProofMissing  Reason = "SECOND_PROOF_MISSING"  // neither the secret header nor the provider's signature is right
	ReasonHybridUnknown       Reason = "HYBRID_SOURCE_UNKNOWN" // a hybrid server that is not listed
	ReasonForwardedMail       Reason = "FORWARDED_MAIL"        // the organisation handled it, but did not write it
	ReasonOwnEcho             Reason = "OWN_ECHO"              // our own egress address came back as a server of the organisation
	ReasonOriginContradicted  Reason = "ORIGIN_CONTRADICTED"   // a verified provider chain says dmarc=fail
	ReasonFromNotOwned        Reason = "FROM_NOT_OWNED"        // From is not a domain of the proven organisation
	ReasonSenderNotOwned      Reason = "SENDER_NOT_OWNED"      // MAIL FROM, Sender or Resent-From is not
	ReasonSourceNotAllowed    Reason = "SOURCE_NOT_ALLOWED"    // an address outside what the source may send as
	ReasonNullSender          Reason = "NULL_SENDER_NOT_REPORT"
	ReasonFromNotSingle       Reason = "FROM_NOT_SINGLE" // not exactly one From field with exactly one mailbox
	ReasonHeaderSyntax        Reason = "HEADER_SYNTAX"   // a header field that is not well formed
	ReasonReplayed            Reason = "REPLAYED"
	ReasonDomainUnverified    Reason = "DOMAIN_UNVERIFIED" // the organisation's DNS record is not there
	ReasonSyntax              Reason = "SYNTAX"            // a command that is not well formed
	ReasonAddressSyntax       Reason = "ADDRESS_SYNTAX"    // an address that is not well formed
	ReasonBadSequence         Reason = "BAD_SEQUENCE"      // a command out of order
	ReasonBareNewline         Reason = "BARE_NEWLINE"      // CR or LF alone, or NUL, in message data
	ReasonMessageTooBig       Reason = "MESSAGE_TOO_BIG"
	ReasonHeaderTooBig        Reason = "HEADER_TOO_BIG"
	ReasonLineTooLong         Reason = "LINE_TOO_LONG"
	ReasonMIMETooDeep         Reason = "MIME_TOO_DEEP"
	ReasonTooManyHops         Reason = "TOO_MANY_HOPS"
	ReasonDirectionMixed      Reason = "DIRECTION_MIXED" // inbound and outbound recipients in one transaction
	ReasonTooManyRecipients   Reason = "TOO_MANY_RECIPIENTS"
	ReasonRateLimited         Reason = "RATE_LIMITED"
	ReasonSourceSuspended     Reason = "SOURCE_SUSPENDED"
	ReasonTooManyConnections  Reason = "TOO_MANY_CONNECTIONS"
	ReasonTooManyErrors       Reason = "TOO_MANY_ERRORS"
	ReasonTimeout             Reason = "TIMEOUT" // the peer was silent or too slow
	ReasonShuttingDown        Reason = "SHUTTING_DOWN"
	ReasonLookupFailed        Reason = "LOOKUP_FAILED"     // DNS did not answer
	ReasonKeyNotPublished     Reason = "KEY_NOT_PUBLISHED" // no configured DKIM key of the domain is in DNS
	ReasonKeyRevoked          Reason = "KEY_REVOKED"       // a message in custody bears a signature of a key since revoked
	ReasonEgressInSPF         Reason = "EGRESS_IN_SPF"     // SPF of an organisation's domain lists an address that mail of others leaves from
	ReasonSigningFailed       Reason = "SIGNING_FAILED"
	ReasonCustodyFailed       Reason = "CUSTODY_FAILED" // the message could not be stored
	ReasonDiskFull            Reason = "DISK_FULL"
	ReasonScreeningLost       Reason = "SCREENING_LOST"
	ReasonMalware             Reason = "MALWARE"
	ReasonContentRefused      Reason = "CONTENT_REFUSED"
	ReasonOwnDomainSpoof      Reason = "OWN_DOMAIN_SPOOF"
	ReasonDMARCReject         Reason = "DMARC_REJECT"
	ReasonDMARCQuarantine     Reason = "DMARC_QUARANTINE" // the From domain asks that such mail is kept apart
	ReasonEchoSuspect         Reason = "ECHO_SUSPECT"
	ReasonRecipientUnknown    Reason = "RECIPIENT_UNKNOWN"
	ReasonBounceNotOurs       Reason = "BOUNCE_NOT_OURS"
	ReasonSuppressed          Reason = "SUPPRESSED" // the recipient is on the organisation's suppression list
	ReasonSRSInvalid          Reason = "SRS_INVALID"
	ReasonHeld                Reason = "HELD"
	ReasonRestored            Reason = "RESTORED" // a backup was restored: it may have been sent since the backup was made
	ReasonInternal            Reason = "INTERNAL" // a fault of this program; the log has the cause
)

// Reasons lists the whole set, in the order above.
func Reasons() []Reason {
	return []Reason{
		ReasonRelayDenied,
		ReasonTLSRequired,
		ReasonAuthRequired,
		ReasonAuthFailed,
		ReasonPeerNotEOP,
		ReasonRelayPool,
		ReasonAttributionMissing,
		ReasonAttributionAmbig,
		ReasonAttributionConflict,
		ReasonTenantNotAuthorized,
		ReasonTenantReserved,
		ReasonSecondProofMissing,
		ReasonHybridUnknown,
		ReasonForwardedMail,
		ReasonOwnEcho,
		ReasonOriginContradicted,
		ReasonFromNotOwned,
		ReasonSenderNotOwned,
		ReasonSourceNotAllowed,
		ReasonNullSender,
		ReasonFromNotSingle,
		ReasonHeaderSyntax,
		ReasonReplayed,
		ReasonDomainUnverified,
		ReasonSyntax,
		ReasonAddressSyntax,
		ReasonBadSequence,
		ReasonBareNewline,
		ReasonMessageTooBig,
		ReasonHeaderTooBig,
		ReasonLineTooLong,
		ReasonMIMETooDeep,
		ReasonTooManyHops,
		ReasonDirectionMixed,
		ReasonTooManyRecipients,
		ReasonRateLimited,
		ReasonSourceSuspended,
		ReasonTooManyConnections,
		ReasonTooManyErrors,
		ReasonTimeout,
		ReasonShuttingDown,
		ReasonLookupFailed,
		ReasonKeyNotPublished,
		ReasonKeyRevoked,
		ReasonEgressInSPF,
		ReasonSigningFailed,
		ReasonCustodyFailed,
		ReasonDiskFull,
		ReasonScreeningLost,
		ReasonMalware,
		ReasonContentRefused,
		ReasonOwnDomainSpoof,
		ReasonDMARCReject,
		ReasonDMARCQuarantine,
		ReasonEchoSuspect,
		ReasonRecipientUnknown,
		ReasonBounceNotOurs,
		ReasonSuppressed,
		ReasonSRSInvalid,
		ReasonHeld,
		ReasonRestored,
		ReasonInternal,
	}
}
