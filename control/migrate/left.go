package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// Left is something that was not taken over.
type Left struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Do   string `json:"do"`
	At   Place  `json:"at"`

	rank int
}

// How much it matters that something was not taken over, most first.
const (
	rankKey     = iota // what is signed
	rankUser           // who may send
	rankNetwork        //
	rankSend           // how mail goes out
	rankInbound        // what comes in
	rankRelay          // the node itself
	rankFilter         // what looks at mail or changes it
	rankLocal          // mailboxes and the like
	rankOther          // no counterpart
)

func (d *drafting) left(rank int, at Place, what, why, do string) {
	d.plan.Left = append(d.plan.Left, Left{What: shown(what), Why: printable(why), Do: printable(do), At: at, rank: rank})
}

// known are parameters that are never taken over, with why and what to do.
var known = []struct {
	names   []string // a name, or its beginning before *
	rank    int
	why, do string
}{
	{[]string{"sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps"}, rankSend,
		"the way out does not depend on the sender, but on the organisation", "give the organisation an egress pool (docs/configuration.md: delivery.egress)"},
	{[]string{"default_transport", "relay_transport", "transport_maps", "fallback_relay", "smtp_fallback_relay"}, rankSend,
		"mail goes out by MX, or all of it to one smart host", "check where it leads; an organisation's own server is [[organisation.inbound]]"},
	{[]string{"smtp_sasl_*"}, rankSend, "the relay does not log in at other hosts", "have the next host know the relay by its address"},
	{[]string{"relay_clientcerts", "smtpd_tls_fingerprint_digest"}, rankUser, "a certificate's key becomes a source with what it may send as", "write a source of kind certificate for each client (docs/applications.md)"},
	{[]string{"smtpd_milters", "non_smtpd_milters", "milter_*", "content_filter", "smtpd_proxy_filter", "receive_override_options"}, rankFilter,
		"scanners are asked in another way; a milter that signs (OpenDKIM) must go: the relay signs itself", "write [screening] in relay.toml (docs/screening.md)"},
	{[]string{"header_checks", "mime_header_checks", "nested_header_checks", "body_checks", "smtp_header_checks", "smtp_mime_header_checks", "smtp_nested_header_checks", "smtp_body_checks", "milter_header_checks"}, rankFilter,
		"the relay changes nothing of a message but its evidence", "let the sender or a scanner do it"},
	{[]string{"canonical_maps", "sender_canonical_maps", "recipient_canonical_maps", "smtp_generic_maps", "masquerade_*", "canonical_classes", "sender_canonical_classes"}, rankFilter,
		"addresses are not rewritten: what was proven is what leaves", "have the senders write the right address"},
	{[]string{"always_bcc", "sender_bcc_maps", "recipient_bcc_maps"}, rankFilter, "no copies are made", "use a journal at the sender"},
	{[]string{"smtpd_*_restrictions", "smtpd_restriction_classes", "smtpd_recipient_limit", "smtpd_client_*", "smtpd_helo_required", "strict_*", "disable_vrfy_command", "smtpd_discard_ehlo_*", "postscreen_*", "smtpd_delay_reject"}, rankFilter,
		"who may send is the registry's question; the rest is the relay's own", "read the order of checks in docs/architecture.md; block lists belong to the scanner"},
	{[]string{"virtual_alias_maps", "virtual_alias_domains", "virtual_maps", "virtual_mailbox_*", "virtual_transport", "virtual_*", "alias_maps", "alias_database", "local_recipient_maps", "local_transport", "mydestination", "mailbox_*", "home_mailbox", "mail_spool_directory", "forward_path", "luser_relay", "dovecot_*", "mailman_*", "allow_mail_to_*", "relocated_maps", "biff", "newaliases_path", "recipient_delimiter"}, rankLocal,
		"there are no mailboxes and aliases here", "keep a server for them, and route their domains to it ([[organisation.inbound]])"},
	{[]string{"relay_recipient_maps", "smtpd_reject_unlisted_*", "address_verify_*"}, rankInbound, "who there is, is a list or a question to the organisation's server", "write recipients_file or recipients = \"ask\" under [[organisation.inbound]]"},
	{[]string{"smtpd_sasl_*", "broken_sasl_auth_clients", "cyrus_sasl_config_path", "smtpd_tls_auth_only"}, rankUser, "AUTH is offered inside TLS alone, with PLAIN and LOGIN; users are sources", "nothing"},
	{[]string{"smtpd_tls_*", "smtp_tls_*", "tls_*", "smtpd_use_tls", "smtp_use_tls", "smtpd_enforce_tls", "smtp_enforce_tls", "lmtp_tls_*"}, rankRelay, "TLS is set by delivery.tls, tls_cert and tls_key alone", "read docs/transport-security.md"},
	{[]string{"smtp_destination_*", "default_destination_*", "*_destination_concurrency_limit", "*_destination_rate_delay", "*_destination_recipient_limit", "default_process_limit", "minimal_backoff_time", "maximal_backoff_time", "queue_run_delay", "bounce_queue_lifetime", "delay_warning_time", "qmgr_*", "anvil_*", "initial_destination_concurrency"}, rankSend,
		"rates and retries are set by site", "write a shaping file and retry_after (docs/shaping.md)"},
	{[]string{"bounce_*", "notify_classes", "*_notice_recipient", "double_bounce_sender", "empty_address_*"}, rankOther, "bounces have their own form", "read docs/bounces.md"},
	{[]string{"proxy_interfaces", "smtpd_authorized_*", "smtpd_upstream_proxy_*"}, rankRelay, "a balancer speaks the PROXY protocol at a port of its own", "write listen_proxy and proxy_protocol_from"},
	{[]string{"mynetworks_style"}, rankNetwork, "networks of interfaces are nobody's in particular: only mynetworks as it is written is looked at", "list machines that send as sources"},
	{[]string{"smtpd_banner", "mail_name", "mail_owner", "setgid_group", "compatibility_level", "*_directory", "queue_*", "shlib_*", "maillog_*", "syslog_*", "debug*", "html_directory", "manpage_directory", "sample_directory", "readme_directory", "sendmail_path", "mailq_path", "append_*", "unknown_*", "swap_bangpath", "parent_domain_*", "daemon_*", "command_*", "inet_protocols", "disable_dns_lookups", "smtp_host_lookup", "smtp_dns_*", "enable_long_queue_ids", "import_environment", "export_environment", "hash_queue_*", "process_id_*", "line_length_limit", "multi_instance_*"}, rankOther,
		"it is about the old program, not about mail", "nothing"},
}

// manyParameters is from when on a file is taken for the output of postconf with every
// default: then parameters nobody knows here are not listed one by one.
const manyParameters = 400

// leftovers lists everything that was written and not looked at.
func (d *drafting) leftovers() {
	all := len(d.Main.order) > manyParameters
	var unknown []string
	for _, name := range d.Main.order {
		if d.asked[name] || d.Main.values[name].Text == "" {
			continue
		}
		v := d.Main.Get(name)
		rank, why, do := about(name)
		switch {
		case all && (rank == rankOther || v.Text == "" || v.Text == "no"):
			unknown = append(unknown, name)
		case v.Text != "" || rank != rankOther:
			d.left(rank, v.At, name+" = "+v.Text, why, do)
		}
	}
	if len(unknown) > 0 {
		d.left(rankOther, Place{File: d.MainFile}, fmt.Sprintf("%d other parameters: %s …", len(unknown), strings.Join(unknown[:min(5, len(unknown))], ", ")), "the file has every default of Postfix: those without a counterpart are not listed", "import main.cf itself, or the output of postconf -n")
	}
	d.leftServices()
	d.leftDKIM()
	for _, v := range d.Main.loops() {
		d.left(rankOther, v.At, v.Text, "a variable that leads back to itself was read as empty", "Postfix would not start with it: mend it")
	}
	for _, v := range d.Strays {
		d.left(rankOther, v.At, v.Text, "it is no parameter and no service", "nothing, if Postfix passes over it too")
	}
	for _, e := range d.openMaps {
		d.left(rankUser, e.At, "smtpd_sender_login_maps: "+e.Key, "it stands for no single address or domain", "write what these users may send as under `from` of their sources")
	}
}

// about says why a parameter is not taken over.
func about(name string) (rank int, why, do string) {
	for _, k := range known {
		if slices.ContainsFunc(k.names, func(pattern string) bool { return matches(pattern, name) }) {
			return k.rank, k.why, k.do
		}
	}
	return rankOther, "there is no counterpart, or it is not known here", "look it up in postconf(5), and decide"
}

// matches compares with a name in which one * stands for anything.
func matches(pattern, name string) bool {
	before, after, any := strings.Cut(pattern, "*")
	if !any {
		return pattern == name
	}
	return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// internals are the services of every Postfix: nothing of them is missed.
var internals = []string{"pickup", "cleanup", "qmgr", "nqmgr", "oqmgr", "tlsmgr", "trivial-rewrite", "bounce", "verify", "flush", "proxymap", "smtp", "showq", "error", "discard", "anvil", "scache", "postlogd", "virtual", "lmtp", "local", "smtpd", "dnsblog", "tlsproxy"}

// leftServices lists the services that have no counterpart, and settings of single ones.
func (d *drafting) leftServices() {
	for _, s := range d.Services {
		switch {
		case s.Command == "postscreen" || !slices.Contains(internals, s.Command):
			d.left(rankFilter, s.At, "service "+s.key()+" "+s.Command, "the relay hands mail to no program", "if it is in use, keep a server for it")
		case s.Command == "smtp" && len(s.Overrides) > 0:
			d.leftOverrides(s, rankSend, "a service of its own for some mail is an egress pool here", "write [[delivery.egress]]")
		case s.Command == "smtpd":
			d.leftOverrides(s, rankRelay, "settings hold for all ports alike", "nothing, if the port's kind (listen, listen_tls, listen_submission) says it already")
		}
	}
}

// seen are overrides that were looked at, or say nothing.
var seen = []string{"syslog_name", "smtpd_tls_wrappermode", "smtpd_sasl_auth_enable", "smtpd_tls_security_level", "smtpd_tls_auth_only",
	"smtpd_client_restrictions", "smtpd_helo_restrictions", "smtpd_sender_restrictions", "smtpd_relay_restrictions", "smtpd_recipient_restrictions", "milter_macro_daemon_name"}

func (d *drafting) leftOverrides(s Service, rank int, why, do string) {
	for _, v := range s.Overrides {
		if !slices.Contains(seen, v.Name) {
			d.left(rank, v.At, "service "+s.Name+": -o "+v.Name+"="+v.Text, why, do)
		}
	}
}

// dkimSeen are OpenDKIM's settings that were looked at; dkimOwn those about the program.
var (
	dkimSeen = []string{"keytable", "signingtable", "internalhosts", "externalignorelist", "keyfile", "domain", "selector", "basedirectory", "peerlist"}
	dkimOwn  = []string{"syslog", "syslogsuccess", "logwhy", "userid", "umask", "socket", "pidfile", "background", "autorestart", "autorestartrate", "trustanchorfile", "canonicalization", "mode", "signaturealgorithm", "oversignheaders", "signheaders", "statistics", "softwareheader", "temporarydirectory", "minimumkeybits", "requiresafekeys", "nameservers"}
)

func (d *drafting) leftDKIM() {
	if d.DKIM == nil {
		return
	}
	for _, name := range d.DKIM.order {
		v := d.DKIM.settings[name]
		switch {
		case slices.Contains(dkimSeen, name):
		case slices.Contains(dkimOwn, name):
			d.left(rankOther, v.At, v.Name+" "+v.Text, "the relay signs in its own way: relaxed/relaxed, over-signed, never l=", "nothing")
		default:
			d.left(rankFilter, v.At, v.Name+" "+v.Text, "there is no counterpart, or it is not known here", "look it up in opendkim.conf(5), and decide")
		}
	}
}
