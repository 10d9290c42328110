package dsn

// row is a class with phrases that stand for it.
type row struct {
	class Class
	any   []string
}

// telling are phrases of servers that mean one thing, whatever code stands beside
// them: the first row with a phrase that is in the text decides. Phrases are in
// lower case; " … " leaves room. They were found by reading the replies and
// reports of many mail systems.
var telling = []row{
	{Virus, []string{"virus", "malware", "infected", "trojan"}},
	{Content, []string{"duplicate header", "addresses in from", "improper use of 8-bit", "illegal attachment", "header error", "bare newline", "bare lf"}},
	{Spam, []string{"spam classification", "flagged as spam", "identified as spam", "considered spam", "classified as spam", "looks like spam", "message content rejected"}},
	{Greylisted, []string{"greylist", "graylist", "grey-list", "try again in … seconds"}},
	{AuthFailure, []string{"dmarc", "spf check", "spf record", "spf fail", "(spf)", "spf:", "spf [", "sender policy framework", "dkim", "failed authentication", "unauthenticated email", "sender is unauthenticated",
		"fails spf", "failed spf", "required authentication", "authentication checks", "not authenticated mail"}},
	{RelayRefused, []string{"relay access denied", "relaying denied", "relay denied", "relaying not allowed", "unable to relay", "not permitted to relay", "relaying is prohibited", "relay not permitted", "we do not relay", "relay not allowed",
		"list of allowed rcpthosts", "no relaying", "configured to relay", "relay prohibited", "smtp authentication", "authentication required", "must authenticate"}},
	{Reputation, []string{"spamhaus", "barracudacentral", "spamcop", "sorbs", "senderscore", "blacklist", "black list", "blocklist", "block list", "blocked using", "dnsbl", "rbl", "reputation", "banned sending ip", "blocked ip", "your ip", "ip address … blocked", "client host … blocked", "client host rejected",
		"host network not allowed", "reverse dns", "ptr record", "no ptr", "rdns", "cannot find your hostname", "cannot find your reverse hostname", "ip name lookup failed", "hostname lookup", "invalid ip for sending", "dynamic ip", "generic ip", "unexpected volume", "name was rejected", "connections not accepted from", "blocked by", "has been blocked"}},
	{MailboxFull, []string{"mailbox full", "mailbox is full", "mailbox … full", "mail box full", "inbox full", "inbox is full", "mailfolder is full", "over quota", "overquota", "over-quota", "quota exceeded", "exceeded quota", "exceeds … quota", "out of storage", "storage quota", "disk quota", "exceeded storage allocation", "mailbox exceed", "mailbox size limit", "mailbox … exceeded", "mail file size exceeds", "too much mail data", "full mailbox"}},
	{UserUnknown, []string{"user unknown", "unknown user", "no such user", "no such recipient", "no such mailbox", "no such account", "no such address", "recipient unknown", "unknown recipient", "unknown address", "invalid recipient", "invalid user", "invalid mailbox", "invalid final delivery userid", "mailbox unknown", "mailbox not found",
		"mailbox does not exist", "user does not exist", "user not exist", "address does not exist", "account does not exist", "you tried to reach does not exist", "does not exist here", "recipient not found", "user not found", "address not found", "account not found", "address unknown", "recipient does not exist", "recipnotfound", "not a valid user", "not a valid mailbox", "not a valid recipient", "undeliverable address", "no mailbox here by that name",
		"unrouteable address", "user doesn't exist", "this user doesn't have a", "not listed in public name", "not listed in domino", "unknown local-part", "unknown local part", "name is not recognized", "not in directory", "bad destination mailbox", "recipient address rejected: access denied", "recipient addresses rejected : access denied", "group you tried to contact", "no valid recipients", "email address is possibly incorrect"}},
	{UserDisabled, []string{"account is disabled", "account disabled", "you tried to reach is disabled", "you tried to reach is inactive", "has been disabled", "mailbox disabled", "disabled mailbox", "mailbox is disabled", "disabled recipient", "account is inactive", "mailbox is inactive", "inactive account", "inactive user", "user is inactive", "is suspended", "been suspended", "account suspended", "user suspended", "mailbox suspended", "mailbox is frozen", "mailbox frozen", "user disabled", "disabled or discontinued", "account is locked", "account locked", "temporary locked", "account is blocked", "deactivated"}},
	{Moved, []string{"has moved", "no longer on server", "address has changed", "has been replaced by", "new address is"}},
	{Loop, []string{"too many hops", "hop count", "mail loop", "loops back to", "routing loop", "forwarding loop", "loop detected"}},
	{TooBig, []string{"message too big", "message too large", "message size exceeds", "exceeds maximum size", "exceeds the maximum size", "exceeded maximum message size", "message length exceeds", "size exceeds fixed", "maximum message size", "message is too large", "size limit exceeded", "exceeds size limit", "message exceeds"}},
	{NotAccepting, []string{"null mx", "nullmx", "doesn't receive email", "does not accept mail", "does not receive mail", "no longer accepts mail", "never accepts mail"}},
	{SystemError, []string{"insufficient disk space", "insufficient system storage", "no space left"}},
	{Network, []string{"host not found, try again", "malformed or unexpected name server reply", "connection refused", "connection timed out", "connection timeout", "no route to host", "network is unreachable", "host is down", "connection reset", "lost connection", "connection dropped", "not accept our requests to connect", "able to establish an smtp connection", "not reachable", "remote host is not responding"}},
	{DomainUnknown, []string{"host unknown", "host or domain name not found", "domain not found", "no such domain", "unknown host", "unknown domain", "domain name not found", "non-existent domain", "nxdomain", "find a mail exchanger or ip address", "find any host named", "unrouteable mail domain", "all relevant mx records point to", "host not found"}},
	{RateLimited, []string{"too many", "rate limit", "ratelimit", "rate limited", "frequency limited", "throttl", "sending too", "receiving mail at a rate", "connection limit", "connection rate", "message rate", "slow down"}},
	{RateLimited, []string{"daily … quota", "hourly … quota"}},
	{TLS, []string{"starttls", "support tls", "tls required", "tls is required", "tls handshake", "must issue a starttls"}},
	{SenderRefused, []string{"sender rejected", "sender address rejected", "sender denied", "invalid sender", "bad sender", "sender verif", "unroutable sender", "unknown sender", "address is not verified", "from: domain is invalid"}},
	{Expired, []string{"retry time not reached", "retry timeout exceeded", "delivery expired", "message expired", "envelope expired", "queue too long", "delivery time expired", "was not delivered within", "in the queue too long"}},
}

// vague are phrases that count only where no enhanced code says more.
var vague = []row{
	{AuthFailure, []string{"not allowed to send", "spoofed"}},
	{Spam, []string{"spam", "bulk mail", "junk mail", "unsolicited", "ubegr", "ube,", "unwanted"}},
	{Content, []string{"message header", "rfc 5322", "rfc 2822", "rfc5322", "rfc2822", "rfc 822", "attachment", "mime", "charset", "malformed", "not compliant"}},
	{TooBig, []string{"too big", "too large", "larger than"}},
	{MailboxFull, []string{"quota", "exceeded the local limit"}},
	{Policy, []string{"policy", "security reason", "prohibited", "administrative", "not permitted"}},
	{RecipientRefused, []string{"recipient refused", "recipient rejected", "restricted", "address rejected", "mailbox unavailable", "access denied", "not authorized"}},
	{UserUnknown, []string{"not exist"}},
	{Network, []string{"timed out", "dns error", "dns lookup", "lookup failed", "socket error", "unreachable", "did not respond"}},
	{SystemError, []string{"internal error", "server error", "system error", "system problem", "local problem", "temporary failure", "temporarily unavailable", "insufficient system", "insufficient disk", "no space left", "configuration error", "command died", "service unavailable", "service currently unavailable", "service refused", "pipe to", "exit status"}},
	{Expired, []string{"expired", "hours on the queue", "delivery failed … attempts"}},
}

// precise are enhanced codes, without their class, that say what it is (RFC 3463,
// the registry of RFC 5248, and those of Microsoft that many see).
var precise = map[string]Class{
	"1.1": UserUnknown, "1.2": DomainUnknown, "1.3": UserUnknown, "1.4": UserUnknown, "1.6": Moved, "1.7": SenderRefused, "1.8": SenderRefused, "1.10": NotAccepting,
	"2.1": UserDisabled, "2.2": MailboxFull, "2.3": TooBig, "2.4": SystemError,
	"3.0": SystemError, "3.1": SystemError, "3.2": NotAccepting, "3.4": TooBig, "3.5": SystemError,
	"4.1": Network, "4.2": Network, "4.3": Network, "4.4": DomainUnknown, "4.5": RateLimited, "4.6": Loop, "4.7": Expired, "4.14": Loop,
	"5.3": RateLimited,
	"6.0": Content, "6.1": Content, "6.2": Content, "6.3": Content, "6.4": Content, "6.5": Content, "6.6": Content, "6.7": Content, "6.8": Content, "6.9": Content, "6.10": Content,
	"7.8": RelayRefused, "7.10": TLS, "7.13": UserDisabled, "7.20": AuthFailure, "7.21": AuthFailure, "7.22": AuthFailure, "7.23": AuthFailure, "7.24": AuthFailure,
	"7.25": Reputation, "7.26": AuthFailure, "7.27": NotAccepting, "7.28": RateLimited, "7.29": AuthFailure, "7.30": TLS,
	"1.351": UserUnknown, "4.312": Network, "4.316": Network, "7.509": AuthFailure, "7.515": AuthFailure, "7.606": Reputation,
}

// general are codes that say little more than where.
var general = map[string]Class{
	"1.0": UserUnknown, "1.5": UserUnknown, "2.0": RecipientRefused, "3.3": Protocol, "4.0": Network,
	"5.0": Protocol, "5.1": Protocol, "5.2": Protocol, "5.4": Protocol, "5.5": Protocol, "5.6": Protocol,
	"7.0": Policy, "7.1": Policy, "7.2": RecipientRefused, "7.3": Policy, "7.4": Protocol, "7.5": Policy, "7.6": Policy, "7.7": Policy, "7.9": Policy,
}
