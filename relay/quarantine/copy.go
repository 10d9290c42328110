package quarantine

import (
	"fmt"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// WarningField is the header field that a copy bears. Its name is one that this
// relay takes off everywhere, so that a copy that is sent in again proves nothing
// and warns of nothing.
const WarningField = "X-Anechoic-Quarantine"

// Copy is the header of a copy that a person takes: what mail programs show of it
// says first that nobody proved it. header has no evidence any more.
func Copy(header mail.Header, d *custody.Detained) mail.Header {
	warning := fmt.Sprintf("HELD: nobody proved who wrote this message.\r\n\tDo not answer it, follow its links or open what it brings.\r\n\tid=%s; reason=%s; org=%s", d.ID, d.Reason, d.Organisation)
	return header.Without(func(f mail.Field) bool { return f.Is(WarningField) }).Prepend(mail.NewField(WarningField, warning))
}
