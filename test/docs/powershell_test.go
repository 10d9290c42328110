package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// cmdlet is what the vendor's reference says of a command, as far as the manual
// uses it.
type cmdlet struct {
	source     string   // page of the reference that was read
	parameters []string // those of the manual; each stands in that page's syntax
}

// Pages of Microsoft's reference, by the name of their file.
const (
	exchangeReference   = "MicrosoftDocs/office-docs-powershell exchange/exchange-ps/ExchangePowerShell/"
	powershellReference = "MicrosoftDocs/PowerShell-Docs reference/7.4/"
)

// cmdlets was written while the reference was read, in November 2026. A command or
// parameter that is not here is looked up there first.
var cmdlets = map[string]cmdlet{
	"Connect-ExchangeOnline":     {exchangeReference + "Connect-ExchangeOnline.md", []string{"UserPrincipalName"}},
	"Get-AcceptedDomain":         {exchangeReference + "Get-AcceptedDomain.md", nil},
	"Get-DkimSigningConfig":      {exchangeReference + "Get-DkimSigningConfig.md", []string{"Identity"}},
	"Set-DkimSigningConfig":      {exchangeReference + "Set-DkimSigningConfig.md", []string{"Identity", "Enabled"}},
	"Get-OrganizationConfig":     {exchangeReference + "Get-OrganizationConfig.md", nil},
	"Set-OrganizationConfig":     {exchangeReference + "Set-OrganizationConfig.md", []string{"RejectDirectSend"}},
	"Set-RemoteDomain":           {exchangeReference + "Set-RemoteDomain.md", []string{"Identity", "AutoForwardEnabled"}},
	"Remove-TransportRule":       {exchangeReference + "Remove-TransportRule.md", []string{"Identity"}},
	"Remove-InboundConnector":    {exchangeReference + "Remove-InboundConnector.md", []string{"Identity"}},
	"Remove-OutboundConnector":   {exchangeReference + "Remove-OutboundConnector.md", []string{"Identity"}},
	"Remove-SendConnector":       {exchangeReference + "Remove-SendConnector.md", []string{"Identity"}},
	"Set-ReceiveConnector":       {exchangeReference + "Set-ReceiveConnector.md", []string{"Identity", "RemoteIPRanges"}},
	"Validate-OutboundConnector": {exchangeReference + "Validate-OutboundConnector.md", []string{"Identity", "Recipients"}},
	"New-OutboundConnector": {exchangeReference + "New-OutboundConnector.md", []string{
		"Name", "ConnectorType", "UseMXRecord", "SmartHosts", "TlsSettings", "TlsDomain", "IsTransportRuleScoped", "Enabled"}},
	"New-InboundConnector": {exchangeReference + "New-InboundConnector.md", []string{
		"Name", "ConnectorType", "SenderDomains", "RequireTls", "RestrictDomainsToIPAddresses", "SenderIPAddresses", "EFSkipLastIP"}},
	"New-TransportRule": {exchangeReference + "New-TransportRule.md", []string{
		"Name", "From", "FromScope", "SentToScope", "SetHeaderName", "SetHeaderValue", "RouteMessageOutboundConnector"}},
	"Set-TransportRule": {exchangeReference + "Set-TransportRule.md", []string{"Identity", "From", "SetHeaderValue", "ExceptIfMessageTypeMatches"}},
	"New-SendConnector": {exchangeReference + "New-SendConnector.md", []string{
		"Name", "Usage", "AddressSpaces", "DNSRoutingEnabled", "SmartHosts", "Port", "SmartHostAuthMechanism", "AuthenticationCredential", "RequireTLS",
		"TlsAuthLevel", "TlsDomain", "Fqdn", "SourceTransportServers", "ProtocolLoggingLevel"}},
	"Get-Credential": {powershellReference + "Microsoft.PowerShell.Security/Get-Credential.md", []string{"UserName", "Message"}},
	"Format-List":    {powershellReference + "Microsoft.PowerShell.Utility/Format-List.md", nil},
	"Format-Table":   {powershellReference + "Microsoft.PowerShell.Utility/Format-Table.md", nil},
}

// closedSets are parameters with few values, as the reference lists them.
var closedSets = map[string][]string{
	"New-OutboundConnector -ConnectorType":          {"Partner", "OnPremises"},
	"New-OutboundConnector -TlsSettings":            {"EncryptionOnly", "CertificateValidation", "DomainValidation"},
	"New-InboundConnector -ConnectorType":           {"Partner", "OnPremises"},
	"New-TransportRule -FromScope":                  {"InOrganization", "NotInOrganization"},
	"New-TransportRule -SentToScope":                {"InOrganization", "NotInOrganization"},
	"Set-TransportRule -ExceptIfMessageTypeMatches": {"OOF", "AutoForward", "Encrypted", "Calendaring", "PermissionControlled", "Voicemail", "Signed", "ApprovalRequest", "ReadReceipt"},
	"New-SendConnector -SmartHostAuthMechanism":     {"None", "BasicAuth", "BasicAuthRequireTLS", "ExchangeServer", "ExternalAuthoritative"},
	"New-SendConnector -TlsAuthLevel":               {"EncryptionOnly", "CertificateValidation", "DomainValidation"},
	"New-SendConnector -Usage":                      {"Custom", "Internal", "Internet", "Partner"},
	"New-SendConnector -ProtocolLoggingLevel":       {"None", "Verbose"},
}

var (
	psWord     = regexp.MustCompile(`"[^"]*"|[^\s"]+`)
	psName     = regexp.MustCompile(`^[A-Z][a-z]+-[A-Z][A-Za-z]+$`)
	psSwitch   = regexp.MustCompile(`^-[A-Za-z]+$`)
	psVariable = regexp.MustCompile(`\$[A-Za-z]+`)
	psInline   = regexp.MustCompile("`([A-Z][a-z]+-[A-Z][A-Za-z]+ [^`]*)`")
)

// scripts are the PowerShell blocks of a page, and the commands in its prose.
func (p page) scripts() (found []block) {
	for _, b := range p.blocks() {
		if b.kind == "powershell" {
			found = append(found, b)
		}
	}
	for _, m := range psInline.FindAllStringSubmatch(p.prose(), -1) {
		if text := strings.ReplaceAll(m[1], `\|`, "|"); psName.MatchString(strings.Fields(text)[0]) {
			found = append(found, block{p.name, "in prose", text})
		}
	}
	return found
}

// TestPowerShellIsSpelledAsTheReferenceSpellsIt: no PowerShell and no Exchange is
// at hand, so the form is checked, and every name against what was read.
func TestPowerShellIsSpelledAsTheReferenceSpellsIt(t *testing.T) {
	seen := 0
	for _, p := range manual(t) {
		for _, script := range p.scripts() {
			for _, statement := range statements(t, script) {
				for command := range strings.SplitSeq(statement, "|") {
					seen++
					checkCommand(t, p.name, command)
				}
			}
		}
	}
	if seen < 15 {
		t.Fatalf("only %d commands were found: the search is broken", seen)
	}
}

// statements joins what a backtick continues. A line that goes on without one, or
// a backtick with nothing behind it, would break when pasted.
func statements(t *testing.T, script block) (found []string) {
	t.Helper()
	assigned := []string{"$true", "$false", "$null"}
	open := ""
	for line := range strings.Lines(script.text) {
		text := strings.TrimRight(line, "\n")
		switch {
		case strings.ContainsAny(text, "“”–—‘’"):
			t.Errorf("%s: typographic signs do not paste: %s", script.page, text)
		case strings.Count(text, `"`)%2 != 0:
			t.Errorf("%s: a quotation mark is open: %s", script.page, text)
		case open != "" && strings.TrimSpace(text) == "":
			t.Errorf("%s: a backtick is followed by nothing: %s", script.page, open)
		case open == "" && strings.HasPrefix(text, " "):
			t.Errorf("%s: the line before does not end with a backtick: %s", script.page, text)
		}
		open += text
		if rest, more := strings.CutSuffix(open, " `"); more {
			open = rest
			continue
		}
		if name, value, ok := strings.Cut(open, " = "); ok && strings.HasPrefix(name, "$") {
			assigned, open = append(assigned, name), value
		}
		for _, v := range psVariable.FindAllString(open, -1) {
			if !slices.Contains(assigned, v) {
				t.Errorf("%s uses %s, which nothing sets: %s", script.page, v, open)
			}
		}
		if strings.TrimSpace(open) != "" {
			found = append(found, open)
		}
		open = ""
	}
	if open != "" {
		t.Errorf("%s: the script ends with a backtick: %s", script.page, open)
	}
	return found
}

// checkCommand looks at one command: its name, its parameters, and values that the
// reference lists.
func checkCommand(t *testing.T, page, command string) {
	t.Helper()
	words := psWord.FindAllString(command, -1)
	name := words[0]
	known, ok := cmdlets[name]
	if !ok {
		t.Errorf("%s: %s is not among the commands that were looked up", page, name)
		return
	}
	for i, w := range words[1:] {
		if !psSwitch.MatchString(w) {
			continue
		}
		if !slices.Contains(known.parameters, w[1:]) {
			t.Errorf("%s: %s %s was not found in %s", page, name, w, known.source)
		}
		if i+2 >= len(words) || psSwitch.MatchString(words[i+2]) {
			t.Errorf("%s: %s %s has no value", page, name, w)
			continue
		}
		if values, few := closedSets[name+" "+w]; few && !slices.Contains(values, words[i+2]) {
			t.Errorf("%s: %s %s %s: the reference knows %v", page, name, w, words[i+2], values)
		}
	}
}
