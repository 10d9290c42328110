package mail

import (
	"fmt"
	"runtime"
)

// PanicText says of a recovered panic what a log may hold. The runtime's own
// errors name indexes, lengths and types, and are told whole. Any other value is
// told by its type alone: its text may be made of what a message or a session
// held, secrets included. The stack, which is logged with it and shows words of
// memory rather than contents, says where it was.
func PanicText(fault any) string {
	if e, ok := fault.(runtime.Error); ok {
		return e.Error()
	}
	return fmt.Sprintf("a value of type %T, whose text is left out", fault)
}
