package mail

// The catalogue: every 4yz and 5yz reply of the relay. One variable a situation;
// the comment says when. Codes follow RFC 5321 section 4.2, enhanced codes RFC
// 3463 and the registry of RFC 5248. TestCatalogue prints it whole.
var (
	// Reception: commands.
	CommandUnknown      = refuse(500, "5.5.2", ReasonSyntax, "Command not recognised")
	CommandTooLong      = refuse(500, "5.5.2", ReasonSyntax, "Line too long")
	CommandNotOffered   = refuse(502, "5.5.1", ReasonSyntax, "Command not offered")
	ArgumentSyntax      = refuse(501, "5.5.2", ReasonSyntax, "Syntax error in arguments")
	ParameterUnknown    = refuse(555, "5.5.4", ReasonSyntax, "Parameter not recognised or not offered")
	SenderSyntax        = refuse(501, "5.1.7", ReasonAddressSyntax, "Sender address is not well formed")
	RecipientSyntax     = refuse(501, "5.1.3", ReasonAddressSyntax, "Recipient address is not well formed")
	SenderNeedsUTF8     = refuse(553, "5.6.7", ReasonAddressSyntax, "Sender address needs SMTPUTF8")
	RecipientNeedsUTF8  = refuse(553, "5.6.7", ReasonAddressSyntax, "Recipient address needs SMTPUTF8")
	BadSequence         = refuse(503, "5.5.1", ReasonBadSequence, "Commands out of order")
	ChunkSizeSyntax     = refuse(501, "5.5.4", ReasonSyntax, "BDAT needs the size of its chunk, closing connection") // RFC 3030 section 2
	NoValidRecipients   = refuse(554, "5.5.1", ReasonBadSequence, "No valid recipients")
	PipelinedTLS        = refuse(503, "5.5.1", ReasonBadSequence, "Nothing may follow STARTTLS before the handshake") // CVE-2011-0411
	TLSNotAvailable     = refuse(454, "4.7.0", ReasonTLSRequired, "TLS not available now")
	TLSRequired         = refuse(530, "5.7.0", ReasonTLSRequired, "Must issue a STARTTLS command first")
	AuthNeedsTLS        = refuse(530, "5.7.0", ReasonTLSRequired, "Authentication is offered inside TLS only")
	AuthRequired        = refuse(530, "5.7.0", ReasonAuthRequired, "Authentication required")
	AuthFailed          = refuse(535, "5.7.8", ReasonAuthFailed, "Authentication credentials invalid")
	AuthUnavailable     = refuse(454, "4.7.0", ReasonLookupFailed, "Authentication cannot be checked now")
	AuthMechanism       = refuse(504, "5.5.4", ReasonSyntax, "Authentication mechanism not offered")
	AuthCancelled       = refuse(501, "5.7.0", ReasonSyntax, "Authentication cancelled")
	AuthTwice           = refuse(503, "5.5.1", ReasonBadSequence, "Already authenticated")
	TooManyRecipients   = refuse(452, "4.5.3", ReasonTooManyRecipients, "Too many recipients in one transaction, send the rest in another")
	DirectionMixed      = refuse(452, "4.5.3", ReasonDirectionMixed, "Recipients here and elsewhere need separate transactions")
	MessageTooBig       = refuse(552, "5.3.4", ReasonMessageTooBig, "Message exceeds the size limit")
	TooManyConnections  = refuse(421, "4.7.0", ReasonTooManyConnections, "Too many connections, try again later")
	TooManyErrors       = refuse(421, "4.7.0", ReasonTooManyErrors, "Too many errors, closing connection")
	ConnectionTimeout   = refuse(421, "4.4.2", ReasonTimeout, "Timed out, closing connection")
	ConnectionTooSlow   = refuse(421, "4.4.2", ReasonTimeout, "Data arrives too slowly, closing connection")
	ShuttingDown        = refuse(421, "4.3.2", ReasonShuttingDown, "Service is stopping, try again later")
	BareNewline         = refuse(521, "5.5.2", ReasonBareNewline, "CR, LF or NUL where only CRLF may stand, closing connection")
	ImplicitTLSExpected = refuse(521, "5.5.2", ReasonSyntax, "Not a TLS connection, closing")
	ProxyHeaderMissing  = refuse(521, "5.5.2", ReasonSyntax, "No valid PROXY header, closing connection")

	// Reception: the message.
	HeaderSyntax      = refuse(550, "5.6.0", ReasonHeaderSyntax, "A header field is not well formed")
	HeaderTooBig      = refuse(552, "5.3.4", ReasonHeaderTooBig, "Header exceeds the limits")
	LineTooLong       = refuse(554, "5.6.0", ReasonLineTooLong, "A line is longer than 998 octets")
	TooManyHops       = refuse(554, "5.4.6", ReasonTooManyHops, "Too many hops, this is a loop")
	FromNotSingle     = refuse(550, "5.6.0", ReasonFromNotSingle, "Exactly one From field with exactly one address is required")
	FromSyntax        = refuse(550, "5.6.0", ReasonHeaderSyntax, "The From field is not well formed")
	OriginatorSyntax  = refuse(550, "5.6.0", ReasonHeaderSyntax, "Sender or Resent-From is not well formed")
	DuplicateField    = refuse(550, "5.6.0", ReasonHeaderSyntax, "A field that may stand once is there more than once") // RFC 5322 section 3.6
	HeaderNeedsUTF8   = refuse(550, "5.6.7", ReasonHeaderSyntax, "An address field outside ASCII needs SMTPUTF8")       // RFC 6531 section 3.3
	MIMETooDeep       = refuse(554, "5.6.0", ReasonMIMETooDeep, "MIME parts are nested too deeply")
	RecipientNotFound = refuse(550, "5.1.1", ReasonRecipientUnknown, "No such recipient here")

	// What comes back (a return address is at an organisation's return path), and
	// who is tried no more: the second is told in a bounce, never as a reply.
	BounceNotOurs = refuse(550, "5.7.1", ReasonBounceNotOurs, "This address takes reports about mail from here, and proves none")
	// RFC 5321 section 4.5.1 wants a postmaster wherever mail is taken; 551 says where (section 3.4).
	PostmasterElsewhere = refuse(551, "5.1.6", ReasonRecipientUnknown, "Nobody reads mail at this domain: write to the postmaster of the domain above it")
	Suppressed          = refuse(550, "5.7.1", ReasonSuppressed, "Not tried: the address is on your organisation's suppression list")

	// Attribution.
	RelayDenied          = refuse(550, "5.7.1", ReasonRelayDenied, "Relaying denied: nothing proves which organisation this mail is from")
	PostmasterMissing    = refuse(550, "5.7.1", ReasonRelayDenied, "Relaying denied: this relay has no postmaster configured")
	InboundNotOffered    = refuse(550, "5.7.1", ReasonRelayDenied, "Mail for this domain is not taken here")
	PeerNotEOP           = refuse(550, "5.7.1", ReasonPeerNotEOP, "The connecting address has no confirmed name of its provider")
	RelayPool            = refuse(550, "5.7.1", ReasonRelayPool, "The provider does not vouch for mail from this address")
	ProviderNeedsTLS     = refuse(530, "5.7.0", ReasonTLSRequired, "Mail of a provider is taken over TLS only")
	AttributionMissing   = refuse(550, "5.7.1", ReasonAttributionMissing, "Not proven to come from any organisation: the provider's stamps are missing")
	AttributionAmbiguous = refuse(550, "5.7.1", ReasonAttributionAmbig, "Not proven to come from any organisation: a provider's stamp is repeated or malformed")
	AttributionConflict  = refuse(550, "5.7.1", ReasonAttributionConflict, "Proofs of different organisations contradict each other")
	TenantNotAuthorized  = refuse(550, "5.7.1", ReasonTenantNotAuthorized, "Not proven to come from this organisation")
	TenantReserved       = refuse(550, "5.7.1", ReasonTenantReserved, "This tenant is shared by everybody and proves nothing")
	SecondProofMissing   = refuse(550, "5.7.1", ReasonSecondProofMissing, "Not proven to come from this organisation: the second proof is missing")
	HybridSourceUnknown  = refuse(550, "5.7.1", ReasonHybridUnknown, "The server that handed this mail to the provider is not one of the organisation's")
	ForwardedMail        = refuse(550, "5.7.1", ReasonForwardedMail, "Forwarded mail is not sent in the organisation's name")
	OwnEcho              = refuse(550, "5.7.1", ReasonOwnEcho, "This relay's own mail came back as the organisation's")
	OriginContradicted   = refuse(550, "5.7.26", ReasonOriginContradicted, "The provider found that this mail is not from where it says")

	// Policy.
	FromNotOwned     = refuse(550, "5.7.1", ReasonFromNotOwned, "The From domain does not belong to the organisation that sent this")
	SenderNotOwned   = refuse(550, "5.7.1", ReasonSenderNotOwned, "A sender address does not belong to the organisation that sent this")
	SourceNotAllowed = refuse(550, "5.7.1", ReasonSourceNotAllowed, "This source may not send as that address")
	NullSender       = refuse(550, "5.7.1", ReasonNullSender, "The null sender is for reports only")
	DomainUnverified = refuse(550, "5.7.1", ReasonDomainUnverified, "The domain's DNS record does not name this organisation")
	RateLimited      = refuse(451, "4.7.28", ReasonRateLimited, "Too much mail, try again later")
	HeldNoRoom       = refuse(451, "4.7.28", ReasonHeld, "A person judges this mail first, and there is no room: try again later")
	Replayed         = refuse(550, "5.7.1", ReasonReplayed, "This message was sent before")
	// A proven source is told when to come back, in five steps and no finer: neither
	// whose budget it was nor how large that is.
	RateLimitedMinutes = refuse(451, "4.7.28", ReasonRateLimited, "Too much mail, try again in ten minutes")
	RateLimitedHour    = refuse(451, "4.7.28", ReasonRateLimited, "Too much mail, try again in an hour")
	RateLimitedHours   = refuse(451, "4.7.28", ReasonRateLimited, "Too much mail, try again in six hours")
	RateLimitedDay     = refuse(451, "4.7.28", ReasonRateLimited, "Too much mail, try again tomorrow")
	RateLimitedAlone   = refuse(451, "4.7.28", ReasonRateLimited, "This message alone is more than may be sent at once, send it to fewer recipients at a time")
	SourceSuspended    = refuse(550, "5.7.28", ReasonSourceSuspended, "This source is suspended")

	// Inbound mail.
	RecipientNotAsked = refuse(451, "4.2.1", ReasonRecipientUnknown, "Whether there is such a recipient cannot be found out now, try again later")
	OwnDomainSpoof    = refuse(550, "5.7.26", ReasonOwnDomainSpoof, "Mail in the name of an organisation here that it did not send")
	DMARCReject       = refuse(550, "5.7.26", ReasonDMARCReject, "The DMARC policy of the From domain asks to reject this message")
	DMARCQuarantine   = refuse(550, "5.7.26", ReasonDMARCQuarantine, "The DMARC policy of the From domain asks to keep this message apart")
	EchoSuspect       = refuse(550, "5.7.26", ReasonEchoSuspect, "The message looks like an echo: a stranger's, sent in that name through a shared relay")
	SRSInvalid        = refuse(550, "5.7.1", ReasonSRSInvalid, "This forwarding address is not valid, or not any more")

	// Screening.
	ScreeningLost   = refuse(451, "4.7.1", ReasonScreeningLost, "The content could not be screened, try again later")
	ContentDeferred = refuse(451, "4.7.1", ReasonContentRefused, "The content is not taken now, try again later")
	ContentRefused  = refuse(550, "5.7.1", ReasonContentRefused, "The content was refused")
	Malware         = refuse(550, "5.7.1", ReasonMalware, "Malware was found in the message")

	// Signing, custody, and what is uncertain.
	LookupFailed    = refuse(451, "4.4.3", ReasonLookupFailed, "A DNS look-up failed, try again later")
	KeyNotPublished = refuse(451, "4.7.5", ReasonKeyNotPublished, "The domain's DKIM key is not published, try again later")
	KeyRevoked      = refuse(550, "5.7.5", ReasonKeyRevoked, "The key that signed this message was revoked")
	EgressInSPF     = refuse(550, "5.7.1", ReasonEgressInSPF, "A sender's domain lists in SPF an address that mail of others leaves from")
	SigningFailed   = refuse(451, "4.7.5", ReasonSigningFailed, "The message could not be signed, try again later")
	CustodyFailed   = refuse(451, "4.3.0", ReasonCustodyFailed, "The message could not be stored, try again later")
	DiskFull        = refuse(452, "4.3.1", ReasonDiskFull, "Out of storage, try again later")
	Internal        = refuse(451, "4.3.0", ReasonInternal, "A fault in this server, try again later")
)
